"""Random arrays on which the claims of a certificate hold, and whether they hold on a found one."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from deploypipe.witness.certificate import CONSTANT, Cell, Cells
from deploypipe.witness.pieces import Array, Graph, random_array

VALUES, LIKE, LARGE, SMALL = range(4)
"""Draws: the values of a real run, numbers spread like them, 30 and 0.01 times as large."""

NUMBERS = 1_048_583
"""Normal numbers that are drawn once; a prime, so that no repetition falls on an axis' end."""

Claims = Mapping[int, Mapping[int, Cell]]
"""What is claimed of one tensor, by axis and index."""


@dataclass
class States:
    """Random arrays of BEFORE's tensors, on which all claims hold.

    Floats are normal numbers from a random place of one long row, so much faster are they there.
    """

    graph: Graph
    values: Mapping[str, Array]
    held: Cells
    unread: Cells
    seed: int

    def __post_init__(self) -> None:
        # Both graphs' pieces need the same numbers, one after the other.
        self._drawn = functools.lru_cache(maxsize=4)(self._draw)
        self._scales: dict[str, tuple[float, float, bool]] = {}
        row = np.random.default_rng(self.seed).standard_normal(NUMBERS, np.float32)
        self._row = np.concatenate([row, row])

    def draw(
        self, name: str, draw: int, fresh: Collection[Cell] | None = (), *, after: bool = False
    ) -> Array:
        """A state, in BEFORE's shape and dtype; the same one for the same arguments.

        Unread cells hold garbage, those in ``fresh`` (all, if None) other garbage.  A kept constant
        that is unread too is that constant, but garbage in AFTER.
        """
        state = self._drawn(name, draw).copy()
        if not after:
            self._garble(state, name, draw, fresh)
        for cells, moved, want in claimed(state, self.held.get(name, {})):
            moved[[cell.index for cell in cells]] = want
        if after:
            self._garble(state, name, draw, fresh)
        return state

    def settled(self, name: str) -> bool:
        """Whether the claims leave nothing of a tensor to be drawn."""
        held, unread = self.held.get(name, {}), self.unread.get(name, {})
        return name in self.values and any(
            len({*held.get(axis, ()), *unread.get(axis, ())}) == self.values[name].shape[axis]
            for axis in {*held, *unread}
        )

    def _garble(self, state: Array, name: str, draw: int, fresh: Collection[Cell] | None) -> None:
        for axis, cells in self.unread.get(name, {}).items():
            moved = np.moveaxis(state, axis, 0)
            new = np.array([fresh is None or cell in fresh for cell in cells.values()])
            for number, here in enumerate((~new, new)):
                generator = self._generator(name, draw, axis, number)
                drawn = garbage(self._value(name), (len(cells), *moved.shape[1:]), generator)
                moved[np.array(list(cells))[here]] = drawn[here]

    def _value(self, name: str) -> Array:
        return self.values[name] if name in self.values else self.graph.array(name)

    def _generator(self, name: str, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(name.encode()), *numbers])

    def _draw(self, name: str, draw: int) -> Array:
        """The values of a real run, or numbers that could have stood there.

        64-bit integers stay, because they are shapes and indices; 32-bit ones change places.
        """
        value, generator = self._value(name), self._generator(name, draw)
        kind, size = value.dtype.kind, value.dtype.itemsize
        still = kind not in "fiub" or (kind in "iu" and size == 8) or self.graph.constant(name)
        if draw == VALUES or not value.size or still:
            return value
        if kind == "b":
            return ~value if draw == LIKE else random_array(value.dtype, value.shape, generator)
        if kind == "f":
            return self._floats(name, value, draw, generator)
        if size > 1:
            return generator.permutation(value.ravel()).reshape(value.shape)
        return random_array(value.dtype, value.shape, generator)

    def _floats(self, name: str, value: Array, draw: int, generator: np.random.Generator) -> Array:
        """Numbers of a tensor's scale; where nothing is negative nothing will be."""
        if name not in self._scales:
            self._scales[name] = _scale(value)
        deviation, mean, positive = self._scales[name]
        start = int(generator.integers(NUMBERS))
        drawn = np.resize(self._row[start : start + min(value.size, NUMBERS)], value.shape)
        drawn *= np.float32(deviation * {LIKE: 1, LARGE: 30, SMALL: 0.01}[draw])
        if draw == LIKE:
            drawn += np.float32(mean)
        if positive:
            np.abs(drawn, out=drawn)
        return drawn.clip(-3e4, 3e4, out=drawn).astype(value.dtype, copy=False)


def _scale(value: Array) -> tuple[float, float, bool]:
    """Deviation and mean of what is finite, and whether nothing is negative."""
    finite = value if np.isfinite(value).all() else value[np.isfinite(value)]
    if not finite.size:
        return 1.0, 0.0, False
    mean, least = float(finite.mean(dtype=np.float64)), float(finite.min())
    return float(finite.std(dtype=np.float64)) or 1.0, mean, least >= 0


def garbage(value: Array, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Any numbers of a tensor's dtype; integers that may be indices stay in their range."""
    if value.dtype.kind == "f":
        return (10 * generator.standard_normal(shape)).astype(value.dtype)
    if value.dtype.itemsize == 1 and value.dtype.kind in "iub":
        return random_array(value.dtype, shape, generator)
    return generator.choice(value.ravel(), shape)


def claimed(array: Array, claims: Claims) -> Iterator[tuple[list[Cell], Array, Array]]:
    """Claimed cells, a view of the array with their axis first, and what should stand there.

    The constants of an axis come at once, multiples when all else has been dealt with.
    """
    for axis, cells in claims.items():
        moved = np.moveaxis(array, axis, 0)
        constants = [cell for cell in cells.values() if cell.what in CONSTANT]
        if constants:
            values = np.array([cell.value for cell in constants]).astype(array.dtype)
            yield constants, moved, values.reshape(-1, *[1] * (array.ndim - 1))
        for cell in cells.values():
            if cell.what == "fixed":
                yield [cell], moved, _broadcast(cell, array)[None]
    for axis, cells in claims.items():
        moved = np.moveaxis(array, axis, 0)
        for cell in cells.values():
            if cell.what == "multiple":
                yield [cell], moved, (moved[[cell.of]] * cell.value).astype(array.dtype)


def _broadcast(cell: Cell, array: Array) -> Array:
    """The value of a fixed cell, along all other axes of the tensor, most of them of size 1."""
    order = np.argsort(cell.axes)
    shape = [array.shape[axis] if axis in cell.axes else 1 for axis in range(array.ndim)]
    del shape[cell.axis]
    along: Array = cell.value.transpose(order).reshape(shape).astype(array.dtype)
    return along


def deviation(
    array: Array, claims: Claims, rounding: float
) -> tuple[float, tuple[Cell, float | int] | None]:
    """How far slices are from their claims, relative to them; one that is too far and its number.

    A constant's error is relative to 1 where that is more, a multiple's to its largest number.
    """
    worst = 0.0
    for cells, moved, want in claimed(array, claims):
        part = moved[[cell.index for cell in cells]]
        if (part == want).all():
            continue
        least = 0.0 if cells[0].what == "multiple" else 1.0
        flat = np.abs(want.reshape(len(want), -1), dtype=np.float64)
        size = np.maximum(flat.max(1, initial=0), least)
        found = error_of(part, want).reshape(len(cells), -1)
        error = found.max(1) / np.where(size > 0, size, 1)
        exact = np.array([cell.what == "zero" or part.dtype.kind != "f" for cell in cells])
        wrong = np.flatnonzero(error > np.where(exact, 0, rounding))
        if wrong.size:
            at = wrong[0]
            return float(error[at]), (cells[at], part[at].flat[found[at].argmax()].item())
        worst = max(worst, float(error.max()))
    return worst, None


def error_of(found: Array, want: Array) -> Array:
    """Absolute differences; a NaN or infinity differs from all but its like."""
    if found.dtype != want.dtype or found.dtype not in (np.float32, np.float64):
        found, want = found.astype(np.float64), want.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        error: Array = np.abs(found - want)
    if not np.isfinite(error).all():
        same = (found == want) | (np.isnan(found) & np.isnan(want))
        error = np.nan_to_num(np.where(same, 0.0, error), nan=np.inf)
    return error


def without(array: Array, cells: Mapping[int, Collection[int]]) -> Array:
    """An array less the cells at these indices of its axes."""
    for axis, indices in cells.items():
        array = np.delete(array, list(indices), axis)
    return array
