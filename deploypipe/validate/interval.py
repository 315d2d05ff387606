"""A value with the interval that holds the truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """``low`` <= the truth <= ``high`` with two-sided ``confidence``."""

    value: float
    low: float
    high: float
    confidence: float

    def map(self, rising: Callable[[float], float]) -> Interval:
        """The interval of a rising function of the value."""
        return Interval(rising(self.value), rising(self.low), rising(self.high), self.confidence)

    def inverse(self) -> Interval:
        """The interval of 1 / value, for a positive value."""
        high = 1 / self.low if self.low > 0 else math.inf
        return Interval(1 / self.value, 1 / self.high, high, self.confidence)

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2
