"""How large a tensor's numbers are and on what grid they lie: whether float arithmetic is exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Scale:
    """All numbers are at most ``bound``, and whole multiples of ``grain``; 0 where they are not."""

    bound: float
    grain: float = 0.0

    def exact(self, bits: int) -> bool:
        """Whether ``bits`` of mantissa hold every such number."""
        return self.grain > 0 and self.bound / self.grain < 2.0**bits

    def __add__(self, other: Scale) -> Scale:
        return Scale(self.bound + other.bound, min(self.grain, other.grain))

    def __mul__(self, other: Scale) -> Scale:
        return Scale(self.bound * other.bound, self.grain * other.grain)

    def joined(self, *others: Scale) -> Scale:
        """Of a tensor that holds numbers of all of them."""
        scales = (self, *others)
        return Scale(max(s.bound for s in scales), min(s.grain for s in scales))

    def rough(self, bound: float | None = None) -> Scale:
        """Of numbers that were rounded."""
        return Scale(self.bound if bound is None else bound)


def scale_of(array: Array) -> Scale:
    """The scale of known numbers; grids down to 2^-12 are seen."""
    numbers = np.asarray(array, np.float64)
    bound = float(np.abs(numbers).max(initial=0.0))
    for power in range(13):
        if np.array_equal(numbers * 2**power, np.round(numbers * 2**power)):
            return Scale(bound, 2.0**-power)
    return Scale(bound)


def summed(x: Scale, rows: Array, bias: Array | None = None) -> Scale:
    """Of sums of x's numbers weighted by each row of ``rows``, plus a bias."""
    weights = scale_of(rows)
    size = np.abs(np.asarray(rows, np.float64)).reshape(len(rows), -1).sum(1).max(initial=0.0)
    total = Scale(x.bound * float(size), x.grain * weights.grain)
    return total if bias is None else total + scale_of(bias)
