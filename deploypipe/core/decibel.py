"""Signal over noise."""

from __future__ import annotations

import math


def decibel(signal: float, noise: float) -> float:
    """10 log10 of the ratio of two powers: infinite without noise, and minus infinity without a
    signal or with noise that is no finite number."""
    if noise == 0:
        return math.inf
    if not (signal > 0 and math.isfinite(noise)):
        return -math.inf
    return 10 * math.log10(signal / noise)
