"""Counts of a tensor's values by the upper 16 bits of their float32 representation.

The upper half of a float32 (sign, exponent, 7 bits of mantissa) is its bfloat16, so a bin is 2^-7
of the values it holds, whatever their size.  No range has to be known beforehand, nothing grows,
and counting is exact under any order and any grouping of the samples; so is merging by addition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

CODES = 1 << 16
_INFINITY = 0x7F80
_SIGN = 0x8000
_FLUSH_AT = 1 << 17
_SMALLEST = 149
"""Every float32 is a whole number times 2^-149."""

PICKED = 1 << 12
"""Of a sample's array about so many values are counted."""


@dataclass(frozen=True)
class Range:
    """The interval [low, high] that a tensor's 8-bit values are to cover."""

    low: float
    high: float


@dataclass(frozen=True)
class Histogram:
    """What was seen of one tensor.

    ``counts`` is int64[65536] by the upper 16 bits (see `Counter`); ``low`` and
    ``high`` are the exact extremes, ``mean_low`` and ``mean_high`` the means of the samples' own
    extremes.  ``elements`` are the values of one sample, of the largest one.
    """

    counts: npt.NDArray[np.int64]
    low: float
    high: float
    mean_low: float = 0.0
    mean_high: float = 0.0
    elements: int = 0

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
    """Counts one tensor's values, sample after sample, in constant memory.

    Of a large array every n-th value is counted, n times, and its extremes once, which decide most
    about where to clip.  Values wait until there are 2^17 of them, because counting costs as much
    as clearing 65,536 counters.  Extremes are summed as whole numbers of the smallest float32: the
    order of the samples leaves no trace.
    """

    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(CODES, np.int64))
    low: float = np.inf
    high: float = -np.inf
    lows: int = 0
    highs: int = 0
    arrays: int = 0
    elements: int = 0
    waiting: dict[int, list[Floats]] = field(default_factory=dict)
    ends: list[float] = field(default_factory=list)
    held: int = 0

    def add(self, values: Floats, start: int = 0) -> None:
        """Count a sample's array of float32 of any shape; see `pick` for ``start``.

        Raises:
            NotFiniteError: it holds a NaN or an infinity; nothing of it is counted.
        """
        if values.size:
            picked = pick(values, start).copy()
            self.add_picked(picked, float(values.min()), float(values.max()), values.size)

    def add_picked(self, picked: Floats, low: float, high: float, size: int) -> None:
        """Count what `pick` took of an array of ``size`` values with these extremes; it is kept for a
        while, so it must be no part of a larger array.

        Raises:
            NotFiniteError: an extreme is a NaN or an infinity; nothing is counted.
        """
        if not (math.isfinite(low) and math.isfinite(high)):
            raise NotFiniteError("NaN" if math.isnan(low) or math.isnan(high) else "infinity")
        # Adding zero turns -0.0 into 0.0, so that the order of equal extremes leaves no trace.
        self.low, self.high = min(self.low, low + 0.0), max(self.high, high + 0.0)
        self.lows += int(math.ldexp(low, _SMALLEST))
        self.highs += int(math.ldexp(high, _SMALLEST))
        self.arrays, self.elements = self.arrays + 1, max(self.elements, size)
        step = step_of(size)
        self.waiting.setdefault(step, []).append(picked)
        if step > 1:
            self.ends += low, high
        self.held += picked.size
        if self.held >= _FLUSH_AT:
            self._flush()

    def _flush(self) -> None:
        if self.ends:
            self.waiting.setdefault(1, []).append(np.array(self.ends, np.float32))
        for times, values in self.waiting.items():
            codes = np.concatenate(values).view(np.uint32) >> 16
            self.counts += times * np.bincount(codes, minlength=CODES)
        self.waiting, self.ends, self.held = {}, [], 0

    def histogram(self) -> Histogram:
        """What was counted so far.

        Raises:
            ValueError: nothing was.
        """
        self._flush()
        if not self.arrays:
            raise ValueError("no value was counted")
        count = self.arrays << _SMALLEST
        low, high = (float(Fraction(one, count)) for one in (self.lows, self.highs))
        return Histogram(self.counts.copy(), self.low, self.high, low, high, self.elements)


def step_of(size: int) -> int:
    """How many values of an array one counted value stands for.

    Odd, so that rows whose length is a power of two do not meet it.
    """
    step = size // PICKED
    return step | 1 if step > 1 else 1


def pick(values: Floats, start: int) -> Floats:
    """Every n-th value, in C order, from the place ``start`` modulo n."""
    step = step_of(values.size)
    return np.ascontiguousarray(values).reshape(-1)[start % step :: step]
