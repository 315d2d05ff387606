"""The means of the samples' own extremes."""

from __future__ import annotations

from dataclasses import dataclass

from deploypipe.quantize.calibrator import Calibrator
from deploypipe.quantize.histogram import Histogram, Range


@dataclass(frozen=True)
class MeanMinmax(Calibrator):
    """Cover the average sample: what is extreme in one of them alone is clipped.

    NNCF's default for activations.
    """

    def range(self, histogram: Histogram) -> Range:
        """The mean of the samples' minima to the mean of their maxima."""
        return Range(histogram.mean_low, histogram.mean_high)
