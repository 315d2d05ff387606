"""What of a channel certificate can be seen without executing anything: does it fit the graphs?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from deploypipe.core.errors import IntegrityError
from deploypipe.witness.certificate import CONSTANT, HELD, Cell, Certificate
from deploypipe.witness.pieces import Array, Graph


def check_structure(
    said: Certificate,
    before: Graph,
    known: Mapping[str, Array],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    """Claims are about cells that there are, and AFTER, of these ``shapes``, has the others.

    ``known`` are all tensors of BEFORE, of whatever content.

    Raises:
        IntegrityError: it is not so.
    """
    sized = [name for name, _, _ in said.sizes]
    for name in (*sized, *(cell.tensor for cell in said.cells), *said.replaced):
        if name not in known:
            raise IntegrityError("BEFORE has no such tensor", where=f"'{name}'")
    for name, axis, size in said.sizes:
        shape = known[name].shape
        if (size,) != shape[axis : axis + 1]:
            told = f"is said to have {size} cells, of {list(shape)}"
            raise IntegrityError(told, where=f"'{name}' axis {axis}")
    for cell in said.cells:
        wrong = _wrong(cell, said, before, known[cell.tensor])
        if wrong:
            raise IntegrityError(wrong, where=str(cell))
    _check_compensations(said)
    for name, shape in shapes.items():
        if name in known:
            _check_shape(name, said, before, known[name], shape)


def _wrong(cell: Cell, said: Certificate, before: Graph, like: Array) -> str | None:
    """Why a claim cannot be true, as far as that can be seen without data."""
    name, constant = cell.tensor, before.constant(cell.tensor)
    if not (0 <= cell.axis < like.ndim and 0 <= cell.index < like.shape[cell.axis]):
        return f"is outside of the shape {list(like.shape)}"
    if cell.kept and cell.among(said.removed):
        return "is listed twice, as removed and as kept"
    if name in before.outputs and not (cell.kept and cell.what in CONSTANT):
        return "belongs to an output, of which everything is needed"
    if cell.what == "cut" and not constant:
        return "is computed from the inputs: 'cut' is no reason to remove it"
    if cell.what in HELD and name in before.inputs:
        return "belongs to an input, which can be anything"
    if cell.what == "multiple":
        if not 0 <= cell.of < like.shape[cell.axis] or cell.of in said.removed[name][cell.axis]:
            return f"is said to be a multiple of index {cell.of}, which is not kept"
        kind = like.dtype
        return None if kind.kind == "f" else f"is {kind}, of which there are no multiples"
    plain = cell.what not in HELD or (cell.what in CONSTANT and like.dtype.kind == "f")
    return None if plain else _wrong_value(cell, like)


def _wrong_value(cell: Cell, like: Array) -> str | None:
    value = np.asarray(cell.value)
    sizes = [like.shape[axis] for axis in cell.axes if 0 <= axis < like.ndim]
    if len({*cell.axes} - {cell.axis}) != len(cell.axes) or len(sizes) != len(cell.axes):
        return f"is said to vary along axes {list(cell.axes)}"
    if [*value.shape] != sizes:
        return f"is said to be of shape {[*value.shape]}, which is {sizes}"
    limits = np.iinfo(like.dtype) if like.dtype.kind in "iu" else None
    if limits and not ((limits.min <= value) & (value <= limits.max) & (value % 1 == 0)).all():
        return f"is {like.dtype}, which cannot be {cell.told()}"
    return None


def _check_compensations(said: Certificate) -> None:
    """What weights took over is claimed, and so are the kept cells whose weights did."""
    patterns = {(cell.tensor, cell.axis, cell.of) for cell in said.cells}
    for cell in said.compensated:
        claim = cell.among(said.held)
        if claim is None or (claim.what in CONSTANT and claim.value != cell.value):
            raise IntegrityError(f"is compensated as {cell.value}, not claimed", where=str(cell))
    for cell in said.takers:
        held = cell.among(said.held) or (cell.tensor, cell.axis, cell.index) in patterns
        if cell.among(said.removed) or not held:
            what = "takes over others, but is removed or not said to be always a constant itself"
            raise IntegrityError(what, where=str(cell))


def _check_shape(
    name: str, said: Certificate, before: Graph, like: Array, after: tuple[int, ...]
) -> None:
    removed, constant = said.removed.get(name, {}), before.constant(name)
    if constant and like.dtype == np.int64 and not removed:
        return  # a shape or indices, of which AFTER may need others
    if constant and not removed and sum(name in reads for reads in before.reads) > 1:
        return  # each of its readers may have a weight of its own in AFTER: their outputs tell
    if like.ndim != len(after):
        raise IntegrityError(f"is {list(after)}, BEFORE {list(like.shape)}", where=f"'{name}'")
    for axis, (old, new) in enumerate(zip(like.shape, after, strict=True)):
        cells = len(removed.get(axis, {}))
        grouped = constant and axis == 1 and not cells and new < old
        if new != old - cells and not (grouped and _in_groups(name, before)):
            raise IntegrityError(
                f"has {old} cells before and {new} after; {cells} are listed as removed",
                where=f"'{name}' axis {axis}",
            )


def _in_groups(name: str, before: Graph) -> bool:
    """Whether a weight goes to a node with groups, which counts axis 1 within a group."""
    pairs = zip(before.nodes, before.reads, strict=True)
    nodes = [node for node, reads in pairs if name in reads]
    outputs = [out for node in nodes for out in node.output if out in before.static]
    groups = (a.i for node in nodes for a in node.attribute if a.name == "group")
    return any(group > 1 for group in groups) or any(_in_groups(out, before) for out in outputs)
