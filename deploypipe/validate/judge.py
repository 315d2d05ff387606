"""Judging: pure functions from measurements and limits to checks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploypipe.core.files import Json
from deploypipe.validate.accuracy import AccuracyComparison
from deploypipe.validate.drift import Drift
from deploypipe.validate.latency import LatencyComparison
from deploypipe.validate.measurement import Measurement
from deploypipe.validate.paired_proportions import samples_needed
from deploypipe.validate.verdict import Budget, Check, Outcome, Side, Verdict

NOT_SLOWER = 0.98
"""Least speedup that still counts as "not slower": equal models cannot be proven to reach 1."""


@dataclass(frozen=True)
class Measured:
    """One model: a row of the report."""

    label: str
    bytes: int
    parameters: int | None = None
    macs: int | None = None
    nodes: int | None = None
    digest: str = ""
    accuracy: float | None = None
    latency: Measurement | None = None

    def to_json(self) -> dict[str, Json]:
        """The ``reference`` or ``candidate`` section of a report."""
        row = dict(vars(self))
        latency = row.pop("latency")
        return {**row, "latency_ms": None if latency is None else latency.summary()}


@dataclass(frozen=True)
class Comparison:
    """What was measured of the two models together; None where it was not."""

    accuracy: AccuracyComparison | None = None
    latency: LatencyComparison | None = None
    drift: Drift | None = None


def judge(
    before: Measured,
    after: Measured,
    comparison: Comparison,
    budget: Budget,
    *,
    not_slower: float = NOT_SLOWER,
) -> Verdict:
    """Check the candidate ``after`` against the reference ``before``.

    Asked without a budget too: finite outputs, and not slower.  What the budget asks for and nobody
    measured is undecided.
    """
    drift, accuracy, latency = comparison.drift, comparison.accuracy, comparison.latency
    checks: list[Check] = []
    if drift is not None:
        checks.append(finite_check(drift))
    if budget.accuracy_drop is not None:
        checks.append(accuracy_check(accuracy, budget.accuracy_drop))
    if latency is not None:
        checks.append(speedup_check(latency, not_slower, name="not slower"))
    if budget.speedup is not None:
        checks.append(speedup_check(latency, budget.speedup))
    if budget.shrink is not None:
        checks.append(shrink_check(before.bytes, after.bytes, budget.shrink))
    return Verdict(tuple(checks))


def finite_check(drift: Drift) -> Check:
    """No NaN or infinity from the candidate on a sample where the reference has none."""
    bad, shared = drift.new_nonfinite, drift.candidate_nonfinite - drift.new_nonfinite
    why = "all outputs are finite"
    if bad:
        why = f"NaN or infinity on {_samples(bad)} where the reference has none"
    elif shared:
        why = f"NaN or infinity on {_samples(shared)}, where the reference has them too"
    outcome = Outcome.FAIL if bad else Outcome.PASS
    return Check("finite outputs", bad, None, None, 0, "samples", outcome, why, "most")


def least_check(name: str, measured: float, limit: float, unit: str, why: str = "") -> Check:
    """A counted value that must reach ``limit``: two outcomes."""
    outcome = Outcome.PASS if measured >= limit else Outcome.FAIL
    return Check(name, measured, None, None, limit, unit, outcome, why or "counted", "least")


def shrink_check(before: int, after: int, limit: float) -> Check:
    """Bytes on disk, reference / candidate: counted, not estimated."""
    return least_check("shrink", before / max(1, after), limit, "x", f"{before} -> {after} bytes")


def speedup_check(latency: LatencyComparison | None, limit: float, name: str = "speedup") -> Check:
    """Pass if the whole interval of the speedup reaches ``limit``, fail if none of it does."""
    if latency is None:
        return _not_measured(name, limit, "x", "latency", "least")
    speedup = latency.speedup
    outcome, why = _speedup_outcome(latency, limit)
    ends = _finite(speedup.low), _finite(speedup.high)
    return Check(name, speedup.value, *ends, limit, "x", outcome, why, "least")


def _speedup_outcome(latency: LatencyComparison, limit: float) -> tuple[Outcome, str]:
    speedup = latency.speedup
    told = f"{speedup.low:.3g}x to {speedup.high:.3g}x at {speedup.confidence:.0%} confidence"
    differing = differences(latency.reference.environment, latency.candidate.environment)
    if differing:
        return Outcome.UNDECIDED, f"measured in different environments: {'; '.join(differing)}"
    if speedup.low < limit <= speedup.high:
        return Outcome.UNDECIDED, f"the limit lies within {told}; more rounds would narrow it"
    distance = math.exp(abs(math.log(speedup.value / limit))) - 1
    if not latency.aa_half_width <= distance / 2:
        return Outcome.UNDECIDED, (
            "noisy host: the reference against itself differs by up to "
            f"{latency.aa_half_width:.1%}, and {distance:.1%} is to be told; "
            "measure on a quieter host or with more rounds"
        )
    return (Outcome.PASS if speedup.low >= limit else Outcome.FAIL), told


def differences(
    reference: Mapping[str, Any], candidate: Mapping[str, Any], path: str = ""
) -> list[str]:
    """``threads: 2 against 4`` for every entry in which two environments differ."""
    told: list[str] = []
    for key in sorted({*reference, *candidate}):
        was, now, where = reference.get(key), candidate.get(key), f"{path}{key}"
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            told += differences(was, now, f"{where}.")
        elif was != now:
            told.append(f"{where}: {was} against {now}")
    return told


def accuracy_check(accuracy: AccuracyComparison | None, limit: float) -> Check:
    """Pass if all of the drop's interval is within ``limit``, fail if all of it is beyond.

    Without a finite metric of the candidate it fails; where only the reference has none, there is
    nothing to compare with.
    """
    name = "accuracy drop"
    if accuracy is None:
        return _not_measured(name, limit, "points", "accuracy", "most")
    drop = accuracy.drop
    outcome = Outcome.UNDECIDED
    if not math.isfinite(drop.value):
        lone = math.isfinite(accuracy.candidate) and not math.isfinite(accuracy.reference)
        outcome = Outcome.UNDECIDED if lone else Outcome.FAIL
        why = f"the metric of the {'reference' if lone else 'candidate'} is not a finite number"
        return Check(name, None, None, None, limit, accuracy.unit, outcome, why, "most")
    if drop.high <= limit:
        outcome = Outcome.PASS
    elif drop.low > limit:
        outcome = Outcome.FAIL
    why = _accuracy_reason(accuracy, limit, outcome)
    ends = _finite(drop.low), _finite(drop.high)
    return Check(name, drop.value, *ends, limit, accuracy.unit, outcome, why, "most")


def _accuracy_reason(accuracy: AccuracyComparison, limit: float, outcome: Outcome) -> str:
    drop, told = accuracy.drop, _samples(accuracy.samples)
    if accuracy.flips_to_wrong is not None:
        told += f", {accuracy.flips_to_wrong} flip to wrong, {accuracy.flips_to_right} to right"
    if accuracy.provable_margin is not None:
        told += f"; they can prove {accuracy.provable_margin:.2g} {accuracy.unit}"
    told += f"; {accuracy.confidence:.0%} one-sided confidence"
    if outcome is not Outcome.UNDECIDED:
        return told
    if not math.isfinite(drop.half_width):
        return f"too few samples: {told}, and so few have no interval"
    needed = _needed(accuracy, limit)
    more = "more samples would not decide it"
    if needed:
        more = f"about {_samples(max(needed, accuracy.samples + 1))} would decide"
    within = f"the limit lies within the interval of {drop.value:.2g}"
    return f"too few samples: {told}, and {within}; {more}"


def _needed(accuracy: AccuracyComparison, limit: float) -> int | None:
    drop = accuracy.drop
    lost, won = accuracy.flips_to_wrong, accuracy.flips_to_right
    if lost is not None and won is not None:
        margin = limit / accuracy.scale
        return samples_needed(lost, won, accuracy.samples, margin, accuracy.confidence)
    if limit == drop.value:
        return None
    return math.ceil(accuracy.samples * (drop.half_width / (limit - drop.value)) ** 2)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _samples(count: int) -> str:
    return f"{count} sample{'' if count == 1 else 's'}"


def _not_measured(name: str, limit: float, unit: str, what: str, side: Side) -> Check:
    why = f"{what} was not measured"
    return Check(name, None, None, None, limit, unit, Outcome.UNDECIDED, why, side)
