"""Deciding as early as is honest: at most three looks, fixed in advance, and a failure confirmed.

Whoever looks until it fits finds what is not there.  So the numbers of observations at which one
looks are fixed before anything is measured, and share the risk between them (Bonferroni).  A look
that finds the candidate too slow is not believed before a fresh run finds so once more.
All of this is a function of the observations: measuring happens elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from deploypipe.core.files import Json
from deploypipe.validate.interval import Interval
from deploypipe.validate.student import mean_interval
from deploypipe.validate.verdict import Outcome

NOISE_CONFIDENCE = 0.99
"""Two-sided, of the interval of the reference against itself."""

Run = Literal["first", "again"]


@dataclass(frozen=True)
class Observation:
    """What one fresh process found.

    ``ratio`` is log(candidate / reference), ``twin`` the same of the reference against itself.
    """

    ratio: float
    twin: float


@dataclass(frozen=True)
class Looks:
    """After how many observations to look; ``alpha`` is the one-sided risk of all looks."""

    counts: tuple[int, ...] = (5, 10, 20)
    alpha: float = 0.005

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.counts, self.counts[1:], strict=False))
        if not self.counts or self.counts[0] < 2 or not rising:
            raise ValueError(f"looks come after rising counts of at least 2, got {self.counts}")
        if len(self.counts) > 3 or not 0 < self.alpha < 0.5:
            raise ValueError(f"at most 3 looks, alpha in (0, 0.5), got {self.counts}, {self.alpha}")

    @classmethod
    def after(cls, first: int) -> Looks:
        """Looks after ``first`` observations, twice and four times as many."""
        return cls((first, 2 * first, 4 * first))

    @property
    def confidence(self) -> float:
        """Two-sided confidence of one look's interval."""
        return 1 - 2 * self.alpha / len(self.counts)


@dataclass(frozen=True)
class Look:
    """One look: the ratio candidate / reference, this host's noise, and what follows."""

    run: Run
    observations: int
    ratio: Interval
    noise: float
    outcome: Outcome
    why: str

    def to_json(self) -> dict[str, Json]:
        return {
            "run": self.run,
            "processes": self.observations,
            "ratio": self.ratio.value,
            "low": _finite(self.ratio.low),
            "high": _finite(self.ratio.high),
            "confidence": self.ratio.confidence,
            "noise": _finite(self.noise),
            "outcome": self.outcome.value,
            "why": self.why,
        }


@dataclass(frozen=True)
class Need:
    """The question is open until ``run`` has so many observations."""

    run: Run
    observations: int


@dataclass(frozen=True)
class Decision:
    """The answer to one question, with the looks that led to it."""

    outcome: Outcome
    why: str
    looks: tuple[Look, ...]

    @property
    def ratio(self) -> Interval:
        """Of the last look at the first run."""
        return [look for look in self.looks if look.run == "first"][-1].ratio

    def to_json(self) -> dict[str, Json]:
        looks = [look.to_json() for look in self.looks]
        return {"outcome": self.outcome.value, "why": self.why, "looks": looks}


def decide(
    first: Sequence[Observation],
    again: Sequence[Observation],
    limit: float,
    looks: Looks,
    *,
    first_ended: bool = False,
    again_ended: bool = False,
) -> Decision | Need:
    """Whether candidate / reference is below ``limit``, or which observations it takes to tell.

    ``first_ended`` and ``again_ended`` say that time is up for a run, which may hang on the clock
    but never on what was measured: then what is there is looked at, in place of the next look.
    """
    taken: list[Look] = []
    for count in looks.counts:
        if len(first) < count and not first_ended:
            return Need("first", count)
        one = look(first[:count], limit, looks.confidence, "first")
        taken.append(one)
        if one.outcome is Outcome.PASS:
            return Decision(one.outcome, one.why, tuple(taken))
        if one.outcome is Outcome.FAIL:
            return _confirm(taken, again, limit, looks, again_ended)
        if len(first) <= count and first_ended:
            break
    return Decision(Outcome.UNDECIDED, taken[-1].why, tuple(taken))


def _confirm(
    taken: list[Look], again: Sequence[Observation], limit: float, looks: Looks, ended: bool
) -> Decision | Need:
    """A failure must come out of a fresh run too, which is looked at once.

    It is as large as the run that it confirms, and at least as a second look: too small a run would
    miss what is there, and make failures rare by chance instead of by proof.
    """
    count = max(taken[-1].observations, looks.counts[min(1, len(looks.counts) - 1)])
    if len(again) < count and not ended:
        return Need("again", count)
    if len(again) < 2:
        why = f"a fresh run has to confirm it, and there was no time for one; {taken[-1].why}"
        return Decision(Outcome.UNDECIDED, why, tuple(taken))
    one = look(again[:count], limit, 1 - 2 * looks.alpha, "again")
    if one.outcome is Outcome.FAIL:
        why = f"{taken[-1].why}; confirmed by a fresh run: {_told(one.ratio)}"
        return Decision(Outcome.FAIL, why, (*taken, one))
    why = f"found slower, but a fresh run does not confirm it: {one.why}"
    return Decision(Outcome.UNDECIDED, why, (*taken, one))


def look(
    observations: Sequence[Observation], limit: float, confidence: float, run: Run = "first"
) -> Look:
    """What these observations say of ``limit``, at two-sided ``confidence``."""
    ratio = mean_interval([one.ratio for one in observations], confidence).map(_exp)
    twin = mean_interval([one.twin for one in observations], NOISE_CONFIDENCE).map(_exp)
    noise = max(twin.high, 1 / twin.low if twin.low > 0 else math.inf) - 1
    outcome, why = weigh(ratio, noise, limit)
    return Look(run, len(observations), ratio, noise, outcome, why)


def weigh(ratio: Interval, noise: float, limit: float) -> tuple[Outcome, str]:
    """Three outcomes: the whole interval below the limit, all of it above, or neither.

    ``noise`` is how far the reference may be from itself.  Where that is more than half of what is
    to be told (the margin, or the distance to the limit if that is more), nothing is decided.
    """
    told, margin = _told(ratio), abs(math.log(limit))
    to_tell = _exp(max(margin if limit > 1 else 0.0, abs(math.log(ratio.value / limit)))) - 1
    if not noise <= to_tell / 2:
        return Outcome.UNDECIDED, (
            f"noisy host: the reference against itself differs by up to {noise:.1%}, and "
            f"{to_tell:.1%} is to be told; measure on a quieter host or longer; {told}"
        )
    if ratio.high <= limit:
        return Outcome.PASS, told
    if ratio.low > limit:
        return Outcome.FAIL, told
    return Outcome.UNDECIDED, f"the limit lies within {told}; measuring longer would narrow it"


def _told(ratio: Interval) -> str:
    speedup = ratio.inverse()
    return f"{speedup.low:.3g}x to {speedup.high:.3g}x at {100 * ratio.confidence:.3g}% confidence"


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))  # two observations may have a very wide interval


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) and value < 1e300 else None
