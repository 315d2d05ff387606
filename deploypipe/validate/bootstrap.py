"""The interval of a statistic that no formula knows: draw the samples again, in pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from deploypipe.validate import Estimator
from deploypipe.validate.interval import Interval
from deploypipe.validate.student import t_quantile

RESAMPLES = 10_000
FEWEST = 2_000
"""Draws of the bootstrap: as many as ``DRAWN`` values in all allow, between these two."""

DRAWN = 5 * 10**7
CHUNK = 2**22
"""Counts that are held at a time: 32 MiB."""

GROUPS = 400
"""The jackknife leaves out one sample at a time, or with more samples one of so many groups."""

TOO_FEW = 10
"""With fewer samples nothing is known of those that were not drawn: draws repeat what there is."""

FEW = 30
"""With fewer samples the draws spread too little, and Student's t sets the least width."""

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
    are skewed.  Draws are of samples, so that pairs stay together.  Below 30 samples the interval
    is at least Student's of the jackknife's pseudo-values (Tukey 1958, Annals of Mathematical
    Statistics 29, 614); below 10, or around a value that is not finite, it is unbounded.  ``width``
    is how many values the statistic takes of a sample: of long rows there are fewer draws.
    """
    value = float(statistic(np.ones((1, samples)))[0])
    unbounded = Interval(value, -math.inf, math.inf, 2 * confidence - 1)
    if samples < TOO_FEW or not math.isfinite(value):
        return Bootstrap(unbounded, math.inf)
    count = resamples or max(FEWEST, min(RESAMPLES, DRAWN // (samples * width)))
    drawn = _draw(statistic, samples, count, seed)
    finite = drawn[np.isfinite(drawn)]
    if len(finite) < 0.99 * count:
        return Bootstrap(unbounded, math.inf)
    bias, without = _bias(finite, value), _without(statistic, samples)
    skew = _acceleration(without)
    low, high = (_quantile(finite, p, bias, skew) for p in (1 - confidence, confidence))
    half = _student_half(without, confidence) if samples < FEW else 0.0
    ends = Interval(value, min(low, value - half), max(high, value + half), 2 * confidence - 1)
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


def _without(statistic: Estimator, samples: int) -> np.ndarray:
    """The jackknife: the statistic without each sample, or each group of samples."""
    groups = min(samples, GROUPS)
    member = np.arange(samples) * groups // samples
    step = max(1, CHUNK // samples)
    parts = []
    for start in range(0, groups, step):
        left_out = np.arange(start, min(start + step, groups))
        parts.append(statistic((member[None, :] != left_out[:, None]).astype(np.float64)))
    return np.concatenate(parts)


def _student_half(without: np.ndarray, confidence: float) -> float:
    """Half the width of the t interval of the pseudo-values, where no sample stands in a group."""
    n = len(without)
    error = float((n - 1) * without.std(ddof=1)) / math.sqrt(n)
    return t_quantile(confidence, n - 1) * error if math.isfinite(error) else math.inf


def _acceleration(without: np.ndarray) -> float:
    """Skewness of the jackknife over six: how the spread changes with the value."""
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
