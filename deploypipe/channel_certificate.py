"""A channel certificate: claims on cells, read from JSON, and random arrays on which they hold."""

from __future__ import annotations

import functools
import json
import math
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploypipe.channel_pieces import VALUES, Array, Graph, garbage, spread
from deploypipe.core.errors import IntegrityError, UserError


@dataclass(frozen=True)
class Cell:
    """One claim: ``index`` of ``axis`` of ``tensor`` is zero, constant, unread or (weights) cut."""

    tensor: str
    axis: int
    index: int
    what: str
    value: float | int = 0

    def among(self, cells: Cells) -> Cell | None:
        """The claim about the same cell, if there is one."""
        return cells.get(self.tensor, {}).get(self.axis, {}).get(self.index)

    def __str__(self) -> str:
        return f"'{self.tensor}' axis {self.axis} index {self.index}"


Cells = dict[str, dict[int, dict[int, Cell]]]
"""Claims by tensor, axis and index."""


def by_tensor(cells: Iterable[Cell]) -> Cells:
    """Claims, to be looked up.

    Raises:
        IntegrityError: one cell is named twice.
    """
    found: Cells = {}
    for cell in cells:
        if cell.among(found):
            raise IntegrityError("is listed twice", where=str(cell))
        found.setdefault(cell.tensor, {}).setdefault(cell.axis, {})[cell.index] = cell
    return found


@dataclass(frozen=True)
class Certificate:
    """What a certificate says: removed cells, kept ones that nothing needs, sizes of cut axes.

    ``compensated`` are constants that weights or a bias took over, ``takers`` the kept constants
    whose weights did.
    """

    removed: list[Cell]
    unread: list[Cell]
    sizes: list[tuple[str, int, int]]
    compensated: list[Cell]
    takers: list[Cell]
    replaced: list[str]


def read_certificate(file: Path) -> Certificate:
    """Read a certificate of version 1.

    Raises:
        UserError: the file is missing, no JSON, or laid out otherwise.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read as JSON: {error}", where=str(file)) from error
    if not isinstance(found, dict) or found.get("format") != "deploypipe-channels":
        raise UserError("no channel certificate", where=str(file))
    if found.get("version") != 1:
        raise UserError(f"version {found.get('version')} is not known, 1 is", where=str(file))
    try:
        return _certificate(found)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"not laid out as a channel certificate: {type(error).__name__}: {error}"
        raise UserError(reason, where=str(file)) from error


def _certificate(found: Mapping[str, Any]) -> Certificate:
    compensated, takers = [], []
    for item in found["compensations"]:
        pairs = zip(item["removed"], item["values"], strict=True)
        compensated += [_cell(item, index, "constant", value, "input") for index, value in pairs]
        if item["how"] == "merge":
            takers.append(_cell(item, item["into"], "constant", 0, "input"))
        elif item["how"] != "bias":
            raise ValueError(f"a compensation by '{item['how']}'")
    return Certificate(
        [_removed(entry, cell) for entry in found["removed"] for cell in entry["cells"]],
        [_cell(entry, index, "unread") for entry in found["unread"] for index in entry["index"]],
        [(str(e["tensor"]), _whole(e["axis"]), _whole(e["size"])) for e in found["removed"]],
        compensated,
        takers,
        [str(item["tensor"]) for item in found["replaced"]],
    )


def _removed(entry: Mapping[str, Any], cell: Mapping[str, Any]) -> Cell:
    what, value = cell["is"], cell["value"]
    reasons = {"zero", "constant", "unread"} | ({"cut"} if entry["kind"] == "weight" else set())
    if entry["kind"] not in ("activation", "weight") or what not in reasons:
        raise ValueError(f"a cell of '{entry['tensor']}', {entry['kind']}, that is '{what}'")
    if what == "zero" and value != 0:
        raise ValueError(f"a zero of value {value!r}")
    return _cell(entry, cell["index"], what, 0 if what in ("unread", "cut") else value)


def _cell(
    entry: Mapping[str, Any], index: object, what: str, value: object = 0, tensor: str = "tensor"
) -> Cell:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise TypeError(f"{value!r} is no number")
    return Cell(str(entry[tensor]), _whole(entry["axis"]), _whole(index), what, value)


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no whole number")
    return value


@dataclass
class States:
    """Random arrays of BEFORE's tensors, on which all claims hold."""

    graph: Graph
    values: Mapping[str, Array]
    fixed: Cells
    unread: Cells
    seed: int

    def __post_init__(self) -> None:
        # Both graphs' pieces need the same numbers, one after the other.
        self._drawn = functools.lru_cache(maxsize=4)(self._draw)

    def draw(self, name: str, draw: int, fresh: Collection[Cell] | None = ()) -> Array:
        """A state, in BEFORE's shape and dtype; the same one for the same arguments.

        Unread cells hold garbage, those in ``fresh`` (all, if None) other garbage.
        """
        value = self.values[name] if name in self.values else self.graph.array(name)
        state = self._drawn(name, draw).copy()
        for axis, cells in self.unread.get(name, {}).items():
            moved = np.moveaxis(state, axis, 0)
            new = np.array([fresh is None or cell in fresh for cell in cells.values()])
            for number, here in enumerate((~new, new)):
                generator = self._generator(name, draw, axis, number)
                drawn = garbage(value, (len(cells), *moved.shape[1:]), generator)
                moved[np.array(list(cells))[here]] = drawn[here]
        for axis, cells in self.fixed.get(name, {}).items():
            moved = np.moveaxis(state, axis, 0)
            moved[list(cells)] = column(cells, moved)
        return state

    def settled(self, name: str) -> bool:
        """Whether the claims leave nothing of a tensor to be drawn."""
        fixed, unread = self.fixed.get(name, {}), self.unread.get(name, {})
        return name in self.values and any(
            len({*fixed.get(axis, ()), *unread.get(axis, ())}) == self.values[name].shape[axis]
            for axis in {*fixed, *unread}
        )

    def _draw(self, name: str, draw: int) -> Array:
        if name not in self.values:
            return self.graph.array(name)
        known = VALUES if self.graph.constant(name) else draw
        return spread(self.values[name], known, self._generator(name, draw))

    def _generator(self, name: str, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(name.encode()), *numbers])


def column(cells: Mapping[int, Cell], moved: Array) -> Array:
    """The values of cells, in the shape that spreads over slices along the first axis."""
    values = np.array([cell.value for cell in cells.values()]).astype(moved.dtype)
    return values.reshape(-1, *[1] * (moved.ndim - 1))


def error_of(found: Array, want: Array) -> Array:
    """Absolute differences as float64; a NaN or infinity differs from all but its like."""
    if found.shape == want.shape and (found == want).all():
        return np.zeros(found.shape)
    one, other = np.broadcast_arrays(found.astype(np.float64), want.astype(np.float64))
    with np.errstate(invalid="ignore"):
        error = np.abs(one - other)
    error = np.where((one == other) | (np.isnan(one) & np.isnan(other)), 0.0, error)
    return np.nan_to_num(error, nan=np.inf)


def off(array: Array, cell: Cell, rounding: float) -> tuple[float, float | int | None]:
    """How far a slice is from its claim, relative to it and 1; a number in it that is too far."""
    part = np.take(array, cell.index, cell.axis)
    error = error_of(part, np.asarray(cell.value).astype(array.dtype)) / max(1.0, abs(cell.value))
    exact = cell.what == "zero" or array.dtype.kind != "f"
    worst = float(error.max(initial=0))
    return worst, part.flat[error.argmax()].item() if worst > (0 if exact else rounding) else None


def without(array: Array, cells: Mapping[int, Collection[int]]) -> Array:
    """An array less the cells at these indices of its axes."""
    for axis, indices in cells.items():
        array = np.delete(array, list(indices), axis)
    return array


def constants(name: str, value: Array, axis: int) -> list[Cell]:
    """Cells of an axis that hold one and the same number everywhere."""
    if value.dtype.kind not in "fiu" or not value.size:
        return []
    flat = np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1)
    same = error_of(flat, flat[:, :1]).max(1) <= 1e-6 * np.maximum(1, np.abs(flat[:, 0]))
    return [
        Cell(name, axis, int(index), "constant", flat[index, 0].item())
        for index in np.flatnonzero(same)
    ]
