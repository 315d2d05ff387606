"""Sums that do not depend on the order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass
class ExactSum:
    """A running sum of float32 arrays of one shape, kept in two float64 numbers for each element.

    The second holds what the first rounds away (Knuth's TwoSum).  Together they have 106 bits, so
    that no bit of a float32 is lost unless it is 2^-70 of the sum.
    """

    high: npt.NDArray[np.float64] | float = 0.0
    low: npt.NDArray[np.float64] | float = 0.0
    count: int = 0

    def add(self, array: npt.NDArray[Any]) -> None:
        """One more summand."""
        x = np.asarray(array, np.float64)
        total = self.high + x
        shadow = total - self.high
        self.low = self.low + ((self.high - (total - shadow)) + (x - shadow))
        self.high = total
        self.count += 1

    def mean(self) -> npt.NDArray[np.float32]:
        """The sum over the count, rounded once."""
        return np.asarray((self.high + self.low) / max(self.count, 1), np.float32)
