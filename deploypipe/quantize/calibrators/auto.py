"""Of the other calibrators, for each tensor the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deploypipe.quantize.calibrator import Calibrator
from deploypipe.quantize.calibrators.entropy import Entropy
from deploypipe.quantize.calibrators.mean_minmax import MeanMinmax
from deploypipe.quantize.calibrators.minmax import Minmax
from deploypipe.quantize.calibrators.mse import Mse
from deploypipe.quantize.calibrators.percentile import Percentile
from deploypipe.quantize.error import squared_error
from deploypipe.quantize.histogram import Histogram, Range
from deploypipe.quantize.params import activation_params


@dataclass(frozen=True)
class Auto(Calibrator):
    """The range whose rounding and clipping together make the smallest squared error.

    Of equal ones the widest: clipping is the error that samples yet unseen can make worse.
    """

    candidates: ClassVar[tuple[Calibrator, ...]] = (
        Minmax(),
        Percentile(),
        Percentile(99.99),
        Mse(),
        Mse(penalty=1.0),
        Entropy(),
        MeanMinmax(),
    )

    def range(self, histogram: Histogram) -> Range:
        """The best of the candidates' ranges."""
        ranges = [one.range(histogram) for one in self.candidates]
        errors = [squared_error(histogram, activation_params(one)) for one in ranges]
        return ranges[errors.index(min(errors))]
