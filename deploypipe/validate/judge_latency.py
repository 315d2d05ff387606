"""Judging latency: from rounds and a limit to a check."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from deploypipe.validate.interval import Interval
from deploypipe.validate.latency import CANDIDATE, LatencyComparison, observation
from deploypipe.validate.looks import Decision, decide, weigh
from deploypipe.validate.verdict import Check, Outcome
from deploypipe.validate.workers import Crash


def speedup_check(
    latency: LatencyComparison | Crash | None, limit: float, name: str = "speedup"
) -> Check:
    """Pass if the whole interval of the speedup reaches ``limit``, fail if none of it does.

    Where the rounds came with a rule of looks, they are judged look by look, as they were measured.
    A crash is judged as :func:`blame` says.
    """
    if latency is None:
        why = "latency was not measured"
        return Check(name, None, None, None, limit, "x", Outcome.UNDECIDED, why, "least")
    if isinstance(latency, Crash):
        return Check(name, None, None, None, limit, "x", blame(latency), str(latency), "least")
    speedup, outcome, why = _answer(latency, limit)
    ends = _finite(speedup.low), _finite(speedup.high)
    return Check(name, speedup.value, *ends, limit, "x", outcome, why, "least")


def blame(crash: Crash) -> Outcome:
    """A candidate that ended its process fails; any other crash leaves nothing to compare with.

    So does a candidate that only never answered: a machine that stood still looks the same.
    """
    fails = crash.label == CANDIDATE and not crash.hung
    return Outcome.FAIL if fails else Outcome.UNDECIDED


def _answer(latency: LatencyComparison, limit: float) -> tuple[Interval, Outcome, str]:
    differing = differences(*_environments(latency))
    if differing:
        why = f"measured in different environments: {'; '.join(differing)}"
        return latency.speedup, Outcome.UNDECIDED, why
    decision = decision_of(latency, limit)
    if decision is None:
        return latency.speedup, *weigh(latency.ratio, latency.aa_half_width, 1 / limit)
    return decision.ratio.inverse(), decision.outcome, decision.why


def decision_of(latency: LatencyComparison, limit: float) -> Decision | None:
    """The looks at a comparison's rounds; None where no rule came with them."""
    if latency.looks is None:
        return None
    found = decide(
        [observation(one) for one in latency.rounds],
        [observation(one) for one in latency.again],
        1 / limit,
        latency.looks,
        first_ended=True,
        again_ended=True,
    )
    assert isinstance(found, Decision)  # both runs have ended
    return found


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


def _environments(latency: LatencyComparison) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What must be equal; across runtimes (torch against a file) that is the machine."""
    pair = latency.reference.environment, latency.candidate.environment
    kinds = {str(one.get("runtime", "")).partition(" ")[0] for one in pair}
    if len(kinds) == 1:
        return pair
    reference, candidate = ({"host": one.get("host")} for one in pair)
    return reference, candidate


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
