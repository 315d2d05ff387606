"""Two models on the same samples, right or wrong: how much worse can the second one be?

Only the samples that flip tell: ``lost`` were right and are wrong now, ``won`` the other way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

from deploypipe.validate.interval import Interval

POWER = 0.9
"""Chance of proving what is true, where a number of samples or a margin is told in advance."""


def drop_interval(lost: float, won: float, samples: int, confidence: float) -> Interval:
    """Score interval of the drop (lost - won) / samples, one-sided at ``confidence`` on each end.

    Tango (1998), Statistics in Medicine 17, 891-908: the drops that a score test under the
    restricted maximum likelihood does not reject.  Holds up with no or few flips, where the
    textbook interval has no width.
    """
    _check(lost, won, samples)
    z = NormalDist().inv_cdf(confidence)
    drop = (lost - won) / samples

    def score(delta: float) -> float:
        return _score(delta, lost, won, samples)

    low = _crossing(lambda delta: score(delta) - z, -1.0, drop)
    high = _crossing(lambda delta: score(delta) + z, drop, 1.0)
    return Interval(drop, low, high, 2 * confidence - 1)


def share_interval(lost: float, samples: int, confidence: float) -> Interval:
    """Share of samples that were lost where none can be won: ``confidence`` on each end.

    Wilson (1927), JASA 22, 209-212: the score interval of one proportion, which stays in 0..1.
    """
    _check(lost, 0, samples)
    z2, share = NormalDist().inv_cdf(confidence) ** 2, lost / samples
    middle = (share + z2 / (2 * samples)) / (1 + z2 / samples)
    spread = share * (1 - share) / samples + z2 / (4 * samples**2)
    half = math.sqrt(z2 * spread) / (1 + z2 / samples)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Interval(share, low if lost else 0.0, high, 2 * confidence - 1)


def _score(delta: float, lost: float, won: float, samples: int) -> float:
    """Tango's z statistic for a true drop of ``delta``; falls with delta."""
    a = 2 * samples
    b = -lost - won + (2 * samples - lost + won) * delta
    c = -won * delta * (1 - delta)
    q = max(0.0, (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a))
    variance = samples * (2 * q + delta * (1 - delta))
    distance = lost - won - samples * delta
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def _crossing(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses zero; an end of [low, high] if it does not inside."""
    if falling(low) <= 0:
        return low
    if falling(high) >= 0:
        return high
    for _ in range(70):
        middle = (low + high) / 2
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def mcnemar_p(lost: int, won: int) -> float:
    """Exact two-sided p of "flips go either way alike" (McNemar 1947, binomial form).

    Shown, never judged by: a large p is no evidence of "no loss".
    """
    flips = lost + won
    if flips == 0:
        return 1.0
    whole = math.lgamma(flips + 1) - flips * math.log(2)
    tail = math.fsum(
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(flips - k + 1))
        for k in range(min(lost, won) + 1)
    )
    return min(1.0, 2 * tail)


def provable_margin(lost: float, won: float, samples: int, confidence: float) -> float:
    """Smallest margin that equal models with this many flips would be proven to keep.

    With the chance ``POWER``, and never below what no flip at all would prove.
    """
    _check(lost, won, samples)
    sure = NormalDist().inv_cdf(confidence)
    margin = (sure + NormalDist().inv_cdf(POWER)) * math.sqrt(lost + won) / samples
    return max(margin, drop_interval(0, 0, samples, confidence).high)


def provable_by(standard_error: float, confidence: float) -> float:
    """The same for any estimate, in the unit of its standard error."""
    normal = NormalDist()
    return (normal.inv_cdf(confidence) + normal.inv_cdf(POWER)) * standard_error


def samples_needed_by(
    standard_error: float, samples: int, distance: float, confidence: float
) -> int | None:
    """Samples that tell an estimate from a limit at that ``distance``; None at no distance."""
    if distance == 0:
        return None
    return math.ceil(samples * (provable_by(standard_error, confidence) / distance) ** 2)


def samples_needed(
    lost: float, won: float, samples: int, margin: float, confidence: float
) -> int | None:
    """Samples that decide whether the drop is within ``margin``, if it stays what it is now.

    None where the drop is the margin itself: no number of samples tells them apart.
    """
    _check(lost, won, samples)
    drop, flips = (lost - won) / samples, (lost + won) / samples
    if margin == drop:
        return None
    sure = NormalDist().inv_cdf(confidence)
    if flips == 0:
        return math.ceil(sure**2 * (1 - margin) / margin) if margin > 0 else None
    z = sure + NormalDist().inv_cdf(POWER)
    return math.ceil(z**2 * (flips - drop**2) / (margin - drop) ** 2)


def _check(lost: float, won: float, samples: int) -> None:
    if samples < 1 or lost < 0 or won < 0 or lost + won > samples:
        raise ValueError(f"{lost} lost and {won} won of {samples} samples cannot be")
