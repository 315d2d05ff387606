"""Counts of a tensor's values by the upper 16 bits of their float32 representation.

The upper half of a float32 (sign, exponent, 7 bits of mantissa) is its bfloat16, so a bin is 2^-7
of the values it holds, whatever their size.  No range has to be known beforehand, nothing grows,
and counting is exact under any order and any grouping of the samples; so is merging by addition.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint16]

CODES = 1 << 16
_INFINITY = 0x7F80
_SIGN = 0x8000
_FLUSH_AT = 1 << 18


@dataclass(frozen=True)
class Range:
    """The interval [low, high] that a tensor's 8-bit values are to cover."""

    low: float
    high: float


@dataclass(frozen=True)
class Histogram:
    """What was seen of one tensor.

    ``counts`` is int64[65536] by the upper 16 bits; ``low`` and ``high`` are the exact extremes.
    """

    counts: npt.NDArray[np.int64]
    low: float
    high: float

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    @property
    def zeros(self) -> int:
        """How many of them were in the bin of zero: smaller than any normal number."""
        return int(self.counts[0] + self.counts[_SIGN])

    def bins(
        self,
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """The bins that hold something, ascending: lower edges, upper edges (float64), counts.

        Edges are cut at the exact extremes, so that the outermost ones are values that occurred.
        """
        negative = np.arange(_SIGN + _INFINITY - 1, _SIGN - 1, -1)
        codes = np.concatenate([negative, np.arange(_INFINITY)])
        codes = codes[self.counts[codes] > 0]
        near, far = _magnitude(codes & ~_SIGN), _magnitude((codes & ~_SIGN) + 1)
        below = codes >= _SIGN
        lower = np.where(below, -far, near)
        upper = np.where(below, -near, far)
        edges = np.clip([lower, upper], self.low, self.high)
        return edges[0], edges[1], self.counts[codes]


def _magnitude(codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return (codes.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


class NotFiniteError(ValueError):
    """A NaN or an infinity was to be counted."""


@dataclass
class Counter:
    """Counts one tensor's values, batch after batch, in constant memory.

    Small arrays are collected until 2^18 values wait, because counting them costs as much as
    clearing 65,536 counters.
    """

    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(CODES, np.int64))
    low: float = np.inf
    high: float = -np.inf
    waiting: list[Codes] = field(default_factory=list)
    held: int = 0

    def add(self, values: Floats) -> None:
        """Count an array of float32 of any shape.

        Raises:
            NotFiniteError: it holds a NaN or an infinity; nothing of it is counted.
        """
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise NotFiniteError("NaN" if np.isnan(low) or np.isnan(high) else "infinity")
        # Adding zero turns -0.0 into 0.0, so that the order of equal extremes leaves no trace.
        self.low, self.high = min(self.low, low + 0.0), max(self.high, high + 0.0)
        codes = (np.ascontiguousarray(values).reshape(-1).view(np.uint32) >> 16).astype(np.uint16)
        self.waiting.append(codes)
        self.held += codes.size
        if self.held >= _FLUSH_AT:
            self._flush()

    def _flush(self) -> None:
        if self.waiting:
            self.counts += np.bincount(np.concatenate(self.waiting), minlength=CODES)
        self.waiting, self.held = [], 0

    def histogram(self) -> Histogram:
        """What was counted so far.

        Raises:
            ValueError: nothing was.
        """
        self._flush()
        if self.low > self.high:
            raise ValueError("no value was counted")
        return Histogram(self.counts.copy(), self.low, self.high)
