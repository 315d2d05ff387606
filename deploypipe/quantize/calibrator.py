"""Choosing the range that 8 bits are to cover, from what was observed."""

from __future__ import annotations

from abc import ABC, abstractmethod

from deploypipe.core.shelf import Shelf
from deploypipe.quantize.histogram import Histogram, Range


class Calibrator(ABC):
    """Turns a histogram into a range.  Options are the constructor's parameters.

    What the graph dictates (zero is representable, a Relu starts at zero) is the plan's business.
    """

    @abstractmethod
    def range(self, histogram: Histogram) -> Range:
        """The range to cover, inside the observed extremes."""


CALIBRATORS: Shelf[Calibrator] = Shelf("calibrator", "deploypipe.quantize.calibrators", Calibrator)
