"""Signal over noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt


def decibel(signal: float, noise: float) -> float:
    """10 log10 of the ratio of two powers: infinite without noise, and minus infinity without a
    signal or with noise that is no finite number."""
    if noise == 0:
        return math.inf
    if not (signal > 0 and math.isfinite(noise)):
        return -math.inf
    return 10 * math.log10(signal / noise)


def powers(expected: npt.NDArray[Any], given: npt.NDArray[Any]) -> tuple[float, float]:
    """The power of ``expected`` and that of its difference from ``given``, of the same shape.

    Places where both are NaN or the same infinity, as behind a mask, count for neither; where only
    one of them is, the noise is no finite number.
    """
    a, b = np.asarray(expected, np.float64), np.asarray(given, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        alike = (a == b) | (np.isnan(a) & np.isnan(b))
        noise = np.square(a - b, where=~alike, out=np.zeros_like(a))
        return float(np.square(a[np.isfinite(a)]).sum()), float(noise.sum())
