"""The range with the smallest expected squared error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deploypipe.quantize.calibrator import Calibrator
from deploypipe.quantize.histogram import Histogram, Range


@dataclass(frozen=True)
class Mse(Calibrator):
    """Weigh the error of rounding against the error of clipping.

    Of ``steps`` shrunk ranges per end, chooses the one that minimises
    ``n * (range / 255)^2 / 12 + penalty * sum((x - clip(x))^2)`` over the n values that are not
    zero (zero is always exact).  A ``penalty`` above 1 spares outliers, whose loss hurts more than
    rounding does; AIMET's "tf-enhanced" scheme uses 3.
    """

    steps: int = 100
    penalty: float = 3.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.penalty <= 0:
            raise ValueError(f"penalty must be positive, got {self.penalty:g}")

    def range(self, histogram: Histogram) -> Range:
        """The best pair of ends, each a fraction of its extreme; zero stays inside."""
        lower, upper, counts = histogram.bins()
        centres = (lower + upper) / 2
        fractions = np.arange(1, self.steps + 1) / self.steps
        lows = fractions * min(histogram.low, 0.0)
        highs = fractions * max(histogram.high, 0.0)
        clipped_low = _clipped(-centres[::-1], counts[::-1], -lows)
        clipped_high = _clipped(centres, counts, highs)
        rounding = ((highs[None, :] - lows[:, None]) / 255) ** 2 / 12
        values = histogram.total - histogram.zeros
        error = values * rounding + self.penalty * (clipped_low[:, None] + clipped_high[None, :])
        low, high = np.unravel_index(int(np.argmin(error)), error.shape)
        return Range(max(float(lows[low]), histogram.low), min(float(highs[high]), histogram.high))


def _clipped(
    centres: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    limits: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Sum over the values above each limit of (value - limit)^2; ``centres`` ascend."""
    weights = counts.astype(np.float64)
    moments = [weights, weights * centres, weights * centres**2]
    tails = [np.append(np.cumsum(m[::-1])[::-1], 0.0) for m in moments]
    at = np.searchsorted(centres, limits, side="right")
    n, first, second = (tail[at] for tail in tails)
    return np.asarray(np.maximum(second - 2 * limits * first + limits**2 * n, 0.0))
