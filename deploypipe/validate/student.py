"""Student's t: the interval of a mean of few values."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from deploypipe.validate.interval import Interval


def mean_interval(values: Sequence[float], confidence: float) -> Interval:
    """Two-sided t interval of the mean; from one value it is unbounded."""
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return Interval(mean, -math.inf, math.inf, confidence)
    variance = math.fsum((v - mean) ** 2 for v in values) / (n - 1)
    half = t_quantile((1 + confidence) / 2, n - 1) * math.sqrt(variance / n)
    return Interval(mean, mean - half, mean + half, confidence)


@functools.cache
def t_quantile(probability: float, freedom: int) -> float:
    """The t below which ``probability`` (in [0.5, 1)) of the distribution lies."""
    if not 0.5 <= probability < 1 or freedom < 1:
        raise ValueError(f"no t quantile for probability {probability}, freedom {freedom}")
    low, high = 0.0, 1.0
    while t_probability(high, freedom) < probability:
        low, high = high, high * 2
    for _ in range(80):
        middle = (low + high) / 2
        if t_probability(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def t_probability(t: float, freedom: int) -> float:
    """P(T <= t) for t >= 0 and whole degrees of freedom.

    The finite sums of Abramowitz and Stegun (1964), 26.7.3 and 26.7.4, exact up to rounding.
    """
    theta = math.atan2(t, math.sqrt(freedom))
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = freedom % 2 == 1
    term = total = cosine if odd else 1.0
    for k in range(3 if odd else 2, freedom - 1, 2):
        term *= cosine**2 * ((k - 1) / k)
        total += term
    if not odd:
        return 0.5 + sine * total / 2
    inner = theta + (sine * total if freedom > 1 else 0.0)
    return 0.5 + inner / math.pi
