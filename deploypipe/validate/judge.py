"""Judging: pure functions from measurements and limits to checks."""

from __future__ import annotations

from dataclasses import dataclass

from deploypipe.core.files import Json
from deploypipe.validate.accuracy import AccuracyComparison
from deploypipe.validate.drift import Drift
from deploypipe.validate.judge_accuracy import accuracy_check as accuracy_check
from deploypipe.validate.judge_accuracy import finite_check
from deploypipe.validate.judge_latency import differences as differences
from deploypipe.validate.judge_latency import speedup_check as speedup_check
from deploypipe.validate.latency import LatencyComparison
from deploypipe.validate.measurement import Measurement
from deploypipe.validate.verdict import Budget, Check, Outcome, Verdict
from deploypipe.validate.workers import Crash

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
    """What was measured of the two models together, or a crash on it; None where it was not."""

    accuracy: AccuracyComparison | None = None
    latency: LatencyComparison | Crash | None = None
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


def least_check(name: str, measured: float, limit: float, unit: str, why: str = "") -> Check:
    """A counted value that must reach ``limit``: two outcomes."""
    outcome = Outcome.PASS if measured >= limit else Outcome.FAIL
    return Check(name, measured, None, None, limit, unit, outcome, why or "counted", "least")


def shrink_check(before: int, after: int, limit: float) -> Check:
    """Bytes on disk, reference / candidate: counted, not estimated."""
    return least_check("shrink", before / max(1, after), limit, "x", f"{before} -> {after} bytes")
