"""The extremes without the outermost few values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deploypipe.quantize.calibrator import Calibrator
from deploypipe.quantize.histogram import Histogram, Range


@dataclass(frozen=True)
class Percentile(Calibrator):
    """Cover ``share`` percent of the observed values and clip the rest, half of it at each end.

    The default was measured on ResNet-20 and -56 for CIFAR-10: 99.99 clips what matters and costs 1
    to 3 dB of the logits' signal-to-noise ratio, 99.999 gains a little on the extremes themselves.
    The clipped share never exceeds what is left: a bin that straddles the limit is kept whole.
    """

    share: float = 99.999

    def __post_init__(self) -> None:
        if not 0 < self.share <= 100:
            raise ValueError(f"share must be in (0, 100], got {self.share:g}")

    def range(self, histogram: Histogram) -> Range:
        """The outer edges of the first and the last bin that are needed to cover the share."""
        lower, upper, counts = histogram.bins()
        # 100 - 99.98 is a little less than 0.02 in floating point.
        droppable = round(histogram.total * (100 - self.share) / 200, 6)
        first = int(np.searchsorted(np.cumsum(counts), droppable, side="right"))
        last = len(counts) - 1
        last -= int(np.searchsorted(np.cumsum(counts[::-1]), droppable, side="right"))
        if first > last:  # the share is so small that both ends meet
            first = last = int(np.searchsorted(np.cumsum(counts), histogram.total / 2))
        return Range(float(lower[first]), float(upper[last]))
