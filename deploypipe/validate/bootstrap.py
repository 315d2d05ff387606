"""The interval of a statistic that no formula knows: draw the samples again, in pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from deploypipe.validate import Estimator
from deploypipe.validate.interval import Interval

RESAMPLES = 10_000
FEWEST = 2_000
"""Draws of the bootstrap: as many as ``DRAWN`` values in all allow, between these two."""

DRAWN = 5 * 10**7
CHUNK = 2**22
"""Counts that are held at a time: 32 MiB."""

GROUPS = 400
"""The jackknife leaves out one sample at a time, or with more samples one of so many groups."""

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Bootstrap:
    """An interval, and the standard deviation of the statistic over the draws."""

    interval: Interval
    standard_error: float


def bootstrap(
    statistic: Estimator,
    samples: int,
    confidence: float,
    seed: int = 0,
    resamples: int | None = None,
    width: int = 1,
) -> Bootstrap:
    """BCa interval of a statistic of ``samples`` samples, one-sided at ``confidence`` on each end.

    Efron (1987), Journal of the American Statistical Association 82, 171-185: percentiles that are
    corrected for bias and for acceleration, because plain ones cover too little where the samples
    are skewed.  Draws are of samples, so that pairs stay together.  From one sample, or around a
    value that is not finite, the interval is unbounded.  ``width`` is how many values the statistic
    takes of a sample: of long rows there are fewer draws.
    """
    value = float(statistic(np.ones((1, samples)))[0])
    unbounded = Interval(value, -math.inf, math.inf, 2 * confidence - 1)
    if samples < 2 or not math.isfinite(value):
        return Bootstrap(unbounded, math.inf)
    count = resamples or max(FEWEST, min(RESAMPLES, DRAWN // (samples * width)))
    drawn = _draw(statistic, samples, count, seed)
    finite = drawn[np.isfinite(drawn)]
    if len(finite) < 0.99 * count:
        return Bootstrap(unbounded, math.inf)
    bias = _bias(finite, value)
    skew = _acceleration(statistic, samples)
    low, high = (_quantile(finite, p, bias, skew) for p in (1 - confidence, confidence))
    ends = Interval(value, low, high, 2 * confidence - 1)
    return Bootstrap(ends, float(finite.std(ddof=1)))


def _draw(statistic: Estimator, samples: int, count: int, seed: int) -> np.ndarray:
    """The statistic of ``count`` draws of ``samples`` samples with repetition."""
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK // samples)
    parts = []
    for done in range(0, count, step):
        rows = min(step, count - done)
        picked = generator.integers(0, samples, (rows, samples))
        picked += np.arange(rows)[:, None] * samples
        counts = np.bincount(picked.ravel(), minlength=rows * samples).reshape(rows, samples)
        parts.append(statistic(counts.astype(np.float64)))
    return np.concatenate(parts)


def _bias(drawn: np.ndarray, value: float) -> float:
    """How far the value is from the median of the draws, in standard deviations; ties are halved.

    Equal sums may differ in their last bits by the order of adding, which must not look like a side.
    """
    tie = 1e-12 * max(abs(value), float(np.abs(drawn).max()))
    below = float((drawn < value - tie).mean() + (drawn <= value + tie).mean()) / 2
    edge = 0.5 / len(drawn)
    return _NORMAL.inv_cdf(min(max(below, edge), 1 - edge))


def _acceleration(statistic: Estimator, samples: int) -> float:
    """Skewness of the jackknife over six: how the spread changes with the value."""
    groups = min(samples, GROUPS)
    member = np.arange(samples) * groups // samples
    step = max(1, CHUNK // samples)
    parts = []
    for start in range(0, groups, step):
        left_out = np.arange(start, min(start + step, groups))
        parts.append(statistic((member[None, :] != left_out[:, None]).astype(np.float64)))
    without = np.concatenate(parts)
    distance = without.mean() - without
    spread = math.sqrt(float((distance**2).sum())) ** 3
    if not math.isfinite(spread) or spread == 0:
        return 0.0
    return float((distance**3).sum()) / (6 * spread)


def _quantile(drawn: np.ndarray, probability: float, bias: float, skew: float) -> float:
    """The corrected quantile of the draws."""
    z = bias + _NORMAL.inv_cdf(probability)
    room = 1 - skew * z
    if room <= 0:  # beyond what the correction can describe: the end of the draws
        return float(drawn.max() if z > 0 else drawn.min())
    return float(np.quantile(drawn, _NORMAL.cdf(bias + z / room)))
