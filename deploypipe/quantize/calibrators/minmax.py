"""The observed extremes."""

from __future__ import annotations

from dataclasses import dataclass

from deploypipe.quantize.calibrator import Calibrator
from deploypipe.quantize.histogram import Histogram, Range


@dataclass(frozen=True)
class Minmax(Calibrator):
    """Cover everything that was observed: nothing is clipped, one outlier coarsens all."""

    def range(self, histogram: Histogram) -> Range:
        """The exact extremes."""
        return Range(histogram.low, histogram.high)
