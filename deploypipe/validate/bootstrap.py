"""The interval of a mean that no formula knows: draw the samples again, in pairs."""

from __future__ import annotations

import math

import numpy as np

from deploypipe.validate.interval import Interval

RESAMPLES = 10_000


def bootstrap_interval(
    differences: np.ndarray, confidence: float, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Percentile interval of the mean of ``differences`` [N], one-sided at ``confidence``.

    Efron (1979), The Annals of Statistics 7, 1-26.  Resampling differences keeps the pairs.  From
    one value, or around a mean that is not finite, the interval is unbounded.
    """
    n, mean = len(differences), float(differences.mean())
    if n < 2 or not math.isfinite(mean):
        return Interval(mean, -math.inf, math.inf, 2 * confidence - 1)
    generator = np.random.default_rng(seed)
    chunk = max(1, 2**20 // n)  # draws of one chunk stay below 8 MiB
    means = [
        differences[generator.integers(0, n, (min(chunk, resamples - done), n))].mean(axis=1)
        for done in range(0, resamples, chunk)
    ]
    low, high = np.quantile(np.concatenate(means), [1 - confidence, confidence])
    return Interval(mean, float(low), float(high), 2 * confidence - 1)
