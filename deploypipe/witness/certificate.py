"""A channel certificate: claims on cells (one index of one axis of a tensor), read from JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from deploypipe.core.errors import IntegrityError, UserError

CONSTANT = ("zero", "constant")
"""Claims of one number for a whole slice."""

HELD = (*CONSTANT, "fixed", "multiple")
"""Claims that say what a slice is."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One claim: ``index`` of ``axis`` of ``tensor`` is zero, constant, unread or (weights) cut.

    Or it is fixed, an array along the other ``axes`` of the tensor, or a multiple of the slice
    ``of``; then ``value`` is that array, or the ratio.  AFTER lacks it unless it is ``kept``.
    """

    tensor: str
    axis: int
    index: int
    what: str
    value: Any = 0
    axes: tuple[int, ...] = ()
    of: int = -1
    kept: bool = False

    def among(self, cells: Cells) -> Cell | None:
        """The claim about the same cell, if there is one."""
        return cells.get(self.tensor, {}).get(self.axis, {}).get(self.index)

    def told(self) -> str:
        """What is claimed, in words that follow "always"."""
        if self.what == "multiple":
            return f"{self.value} times index {self.of}"
        return "the same array" if self.what == "fixed" else str(self.value)

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
    """What a certificate says: claims, and how it accounts for them.

    ``sizes`` are those of cut axes, ``compensated`` the cells that weights or a bias took over,
    ``takers`` the kept cells whose weights did, ``shifted`` names of tensors to or behind which a
    bias was added, ``replaced`` those that another node computes.
    """

    cells: list[Cell]
    sizes: list[tuple[str, int, int]]
    compensated: list[Cell]
    takers: list[Cell]
    shifted: set[str]
    replaced: list[str]

    @cached_property
    def removed(self) -> Cells:
        """Cells that AFTER lacks."""
        return by_tensor(cell for cell in self.cells if not cell.kept)

    @cached_property
    def held(self) -> Cells:
        """Cells, removed or kept, of which a content is claimed."""
        return by_tensor(cell for cell in self.cells if cell.what in HELD)

    @cached_property
    def unread(self) -> Cells:
        """Cells, removed or kept, that nothing needs; a kept one may have a content too."""
        return by_tensor(cell for cell in self.cells if cell.what == "unread")


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
        for index, value in zip(item["removed"], item["values"], strict=True):
            compensated.append(_cell(item, index, "constant", _number(value), tensor="input"))
        if item["how"] == "merge":
            takers.append(_cell(item, item["into"], "constant", tensor="input"))
        elif item["how"] != "bias":
            raise ValueError(f"a compensation by '{item['how']}'")
    return Certificate(
        [
            *(_removed(entry, cell) for entry in found["removed"] for cell in entry["cells"]),
            *(
                _cell(entry, i, "unread", kept=True)
                for entry in found["unread"]
                for i in entry["index"]
            ),
            *(
                _cell(entry, index, "constant" if value else "zero", _number(value), kept=True)
                for entry in found.get("constants", ())
                for index, value in zip(entry["index"], entry["values"], strict=True)
            ),
        ],
        [(str(e["tensor"]), _whole(e["axis"]), _whole(e["size"])) for e in found["removed"]],
        compensated,
        takers,
        {str(item["tensor"]) for item in found["compensations"] if item["how"] == "bias"},
        [str(item["tensor"]) for item in found["replaced"]],
    )


def _removed(entry: Mapping[str, Any], cell: Mapping[str, Any]) -> Cell:
    what, value = cell["is"], cell["value"]
    reasons = {*HELD, "unread"} | ({"cut"} if entry["kind"] == "weight" else set())
    if entry["kind"] not in ("activation", "weight") or what not in reasons:
        raise ValueError(f"a cell of '{entry['tensor']}', {entry['kind']}, that is '{what}'")
    if what == "zero" and value != 0:
        raise ValueError(f"a zero of value {value!r}")
    if what == "fixed":
        axes = tuple(map(_whole, cell["axes"]))
        return _cell(entry, cell["index"], what, _array(value), axes=axes)
    of = _whole(cell["of"]) if what == "multiple" else -1
    return _cell(entry, cell["index"], what, _number(value) if what in HELD else 0, of=of)


def _cell(
    entry: Mapping[str, Any],
    index: object,
    what: str,
    value: Any = 0,
    tensor: str = "tensor",
    **more: Any,
) -> Cell:
    return Cell(str(entry[tensor]), _whole(entry["axis"]), _whole(index), what, value, **more)


def _number(value: object) -> float | int:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not np.isfinite(value):
        raise TypeError(f"{value!r} is no number")
    return value


def _array(value: object) -> np.ndarray[Any, Any]:
    array = np.array(value)  # raises where lists are ragged
    if array.dtype.kind not in "fi" or not np.isfinite(array).all():
        raise TypeError(f"{str(value)[:60]} is no array of numbers")
    return array


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no whole number")
    return value
