"""Judging what the models answer: accuracy, NaN, and whether the samples are still the same."""

from __future__ import annotations

import math

from deploypipe.validate.accuracy import AccuracyComparison
from deploypipe.validate.drift import Drift
from deploypipe.validate.paired_proportions import samples_needed, samples_needed_by
from deploypipe.validate.verdict import Check, Outcome


def finite_check(drift: Drift) -> Check:
    """No NaN or infinity from the candidate in a value where the reference has none."""
    samples, values = drift.new_nonfinite, drift.new_nonfinite_values or drift.new_nonfinite
    shared = drift.candidate_nonfinite - samples
    why = "all outputs are finite"
    if samples:
        why = f"NaN or infinity on {count(samples)} where the reference has none"
        why += f"; first made by {drift.first_nonfinite}" if drift.first_nonfinite else ""
    elif shared:
        why = f"NaN or infinity on {count(shared)}, where the reference has them too"
    outcome = Outcome.FAIL if samples else Outcome.PASS
    return Check("finite outputs", values, None, None, 0, "values", outcome, why, "most")


def same_data_check(baseline: str, found: str) -> Check | None:
    """Undecided where the samples are not those of the baseline; None where they are."""
    if baseline == found:
        return None
    why = (
        f"the samples changed since the baseline: their digest was {baseline[:12]}, "
        f"now it is {found[:12]}; measure the baseline again"
    )
    return Check("same samples", None, None, None, None, "", Outcome.UNDECIDED, why, "most")


def accuracy_check(accuracy: AccuracyComparison | None, limit: float) -> Check:
    """Pass if all of the drop's interval is within ``limit``, fail if all of it is beyond.

    Without a finite metric of the candidate it fails; where only the reference has none, there is
    nothing to compare with.
    """
    name = "accuracy drop"
    if accuracy is None:
        why, none = "accuracy was not measured", Outcome.UNDECIDED
        return Check(name, None, None, None, limit, "points", none, why, "most")
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
    needed = _needed(accuracy, limit) if outcome is Outcome.UNDECIDED else None
    why = _reason(accuracy, outcome, needed)
    ends = _finite(drop.low), _finite(drop.high)
    unit = accuracy.unit
    return Check(name, drop.value, *ends, limit, unit, outcome, why, "most", needed)


def _reason(accuracy: AccuracyComparison, outcome: Outcome, needed: int | None) -> str:
    drop, told = accuracy.drop, count(accuracy.samples)
    if accuracy.of_reference and accuracy.flips_to_wrong is not None:
        changed = accuracy.flips_to_wrong
        told += f", {changed} {'is' if changed == 1 else 'are'} answered otherwise"
    elif accuracy.flips_to_wrong is not None:
        told += f", {accuracy.flips_to_wrong} flip to wrong, {accuracy.flips_to_right} to right"
    if math.isfinite(drop.high):
        told += f"; they prove a loss of at most {accuracy.proven_margin:.2g}"
    if accuracy.provable_margin is not None:
        told += f"; they can prove {accuracy.provable_margin:.2g} {accuracy.unit}".rstrip()
    told += f"; {accuracy.confidence:.0%} one-sided confidence"
    if outcome is not Outcome.UNDECIDED:
        return told
    if not math.isfinite(drop.half_width):
        return f"too few samples: {told}, and so few have no interval"
    more = f"about {count(needed)} would decide" if needed else "more samples would not decide it"
    within = f"the limit lies within the interval of {drop.value:.2g}"
    return f"too few samples: {told}, and {within}; {more}"


def _needed(accuracy: AccuracyComparison, limit: float) -> int | None:
    """Samples that would decide, if the drop stays what it is; None if no number would."""
    drop, n = accuracy.drop, accuracy.samples
    lost, won, error = accuracy.flips_to_wrong, accuracy.flips_to_right, accuracy.standard_error
    if lost is not None and won is not None:
        found = samples_needed(lost, won, n, limit / accuracy.scale, accuracy.confidence)
    elif error is None:
        return None
    else:
        found = samples_needed_by(error, n, limit - drop.value, accuracy.confidence)
    return None if found is None else max(found, n + 1)


def count(samples: int) -> str:
    """``1 sample``, ``2 samples``."""
    return f"{samples} sample{'' if samples == 1 else 's'}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
