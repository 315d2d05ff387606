"""What 8 bits do to the values of a histogram."""

from __future__ import annotations

import numpy as np

from deploypipe.core.decibel import decibel
from deploypipe.quantize.histogram import Histogram
from deploypipe.quantize.params import QParams


def squared_error(histogram: Histogram, params: QParams, levels: int = 255) -> float:
    """Expected sum of squared differences of all counted values from their rounded selves.

    Values of bins that are wider than a step are taken to lie evenly between two steps.
    """
    lower, upper, counts = histogram.bins()
    centres, scale = (lower + upper) / 2, params.scale
    steps = np.clip(np.rint(centres / scale) + params.zero_point, 0, levels)
    error = (centres - (steps - params.zero_point) * scale) ** 2
    inside = (steps > 0) & (steps < levels)
    wide = inside & (upper - lower > scale / 2)
    return float(np.sum(counts * np.where(wide, scale**2 / 12, error)))


def sqnr(histogram: Histogram, params: QParams, levels: int = 255) -> float:
    """Signal to quantization noise of the tensor alone, in dB; ``inf`` without an error."""
    lower, upper, counts = histogram.bins()
    power = float(np.sum(counts * ((lower + upper) / 2) ** 2))
    return decibel(power, squared_error(histogram, params, levels))
