"""The range that loses least information."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deploypipe.quantize.calibrator import Calibrator
from deploypipe.quantize.histogram import Histogram, Range

Floats = npt.NDArray[np.float64]

_LEVELS = 256
_TINY = 1e-37


@dataclass(frozen=True)
class Entropy(Calibrator):
    """The shrunk range with the smallest Kullback-Leibler divergence.

    First the upper end shrinks, to 1/``steps``, 2/``steps`` ... of the extreme, then the lower; a few
    of these are tried, each 0.8 of the one before, then all near the best.
    What is clipped goes to the outermost of ``bins`` even bins; of them, the 256 levels know only
    their own sums, spread over the bins that hold anything (Migacz, "8-bit inference with
    TensorRT", GTC 2017).  Zeros are left out: they are exact at any range.
    """

    bins: int = 2048
    steps: int = 128

    def __post_init__(self) -> None:
        if self.bins < 2 * _LEVELS:
            raise ValueError(f"bins must be at least {2 * _LEVELS}, got {self.bins}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")

    def range(self, histogram: Histogram) -> Range:
        """The best fractions of the extremes; zero stays inside."""
        low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
        if low == high:
            return Range(low, high)
        edges = np.linspace(low, high, self.bins + 1)
        mass = _mass(histogram, edges)
        top, bottom = high / self.steps, low / self.steps
        high = top * self._best(lambda step: _divergence(mass, edges, low, step * top))
        low = bottom * self._best(lambda step: _divergence(mass, edges, step * bottom, high))
        return Range(low, high)

    def _best(self, divergence: Callable[[int], float]) -> int:
        """The step with the smallest divergence, of equal ones the last."""
        coarse = [self.steps]
        while coarse[-1] > 1:
            coarse.append(max(1, min(coarse[-1] - 1, round(0.8 * coarse[-1]))))
        best = coarse.index(min(coarse, key=divergence))
        ends = coarse[max(best - 1, 0)], coarse[min(best + 1, len(coarse) - 1)]
        return min(range(ends[0], ends[1] - 1, -1), key=divergence)


def _mass(histogram: Histogram, edges: Floats) -> Floats:
    """How many values other than zero lie between the edges; each bin is spread evenly."""
    lower, upper, counts = histogram.bins()
    counts = np.where(np.maximum(-lower, upper) < _TINY, 0, counts)
    after = np.cumsum(counts)
    ends = np.stack([lower, upper], 1).reshape(-1)
    below = np.stack([after - counts, after], 1).reshape(-1)
    return np.diff(np.interp(edges, ends, below, left=0.0, right=float(after[-1])))


def _divergence(mass: Floats, edges: Floats, low: float, high: float) -> float:
    """KL of the clipped distribution from what 256 levels over [low, high] make of it."""
    centres = (edges[:-1] + edges[1:]) / 2
    inside = np.flatnonzero((centres >= low) & (centres <= high))
    if not inside.size:
        return np.inf
    first, last = inside[0], inside[-1]
    kept = mass[first : last + 1]
    clipped = kept.copy()
    clipped[0] += mass[:first].sum()
    clipped[-1] += mass[last + 1 :].sum()
    level = np.rint((centres[first : last + 1] - low) / (high - low) * (_LEVELS - 1)).astype(int)
    held = kept > 0
    sums = np.bincount(level, kept, _LEVELS)
    holders = np.bincount(level, held, _LEVELS)
    spread = np.where(held, sums[level] / np.maximum(holders[level], 1), 0.0)
    p, q = clipped / max(clipped.sum(), 1e-300), spread / max(spread.sum(), 1e-300)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(p > 0, p * np.log(p / q), 0.0)
    return float(parts.sum()) if np.isfinite(parts).all() else np.inf
