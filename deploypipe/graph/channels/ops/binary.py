"""Elementwise functions of several tensors, with broadcasting.

An axis of size 1 is stretched, so it is tied to nothing; the others are tied index by index.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Tie, axis_size, rank
from deploypipe.graph.channels.rule import LIVE, Needs, Rule, Values
from deploypipe.graph.constants import constant_of

_FUNCTIONS = {
    "Add": np.add,
    "Sum": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Min": np.minimum,
    "Max": np.maximum,
    "Pow": np.power,
}


class Elementwise(Rule):
    """Tensors in, one out, index by index."""

    ops: ClassVar[frozenset[str]] = frozenset({*_FUNCTIONS, "Mean", "PRelu"})

    @property
    def operands(self) -> list[ir.Value]:
        """The tensors that the function takes."""
        return [value for value in self.node.inputs if value is not None]

    def refusal(self) -> str | None:
        unknown = any(rank(value) is None for value in self.node.inputs if value is not None)
        return "has a tensor of unknown rank" if unknown else None

    def ties(self) -> Iterable[Tie | None]:
        for value in self.operands:
            for axis, under in aligned(value, self.y):
                if not self._unknown(axis):
                    yield Tie.same((value, under), (self.y, axis))

    def values(self, known: Values) -> None:
        for axis in range(rank(self.y) or 0):
            size = axis_size(self.y, axis)
            if size is not None:
                vectors = [spread(known, value, self.y, axis, size) for value in self.operands]
                known[self.y, axis] = self._combine(vectors)

    def demand(self, needs: Needs, known: Values) -> None:
        for place, value in enumerate(self.operands):
            for axis, under in aligned(value, self.y):
                wanted = needs.of(self.y, axis)
                if self.node.op_type == "Mul":
                    wanted = wanted & ~self._silenced(known, place, axis, len(wanted))
                size = axis_size(value, under) or 0
                whole = np.full(size, needs.of(self.y, axis).any())
                needs.add(value, under, wanted if size == len(wanted) else whole)

    def _unknown(self, axis: int) -> bool:
        """Whether some tensor's size along an axis of y is unknown, so that it cannot be cut."""
        places = [(x, axis - (rank(self.y) or 0) + (rank(x) or 0)) for x in self.node.inputs if x]
        return any(place >= 0 and axis_size(x, place) is None for x, place in places)

    def _silenced(self, known: Values, place: int, axis: int, size: int) -> np.ndarray:
        """bool [size]: the other factor is zero.  Of two zeros the first must be kept in order."""
        zero = [spread(known, value, self.y, axis, size) == 0 for value in self.operands]
        others = [z for k, z in enumerate(zero) if k != place]
        first = zero[place] & ~np.any(zero[:place], axis=0) if place else zero[place]
        return np.asarray(np.any(others, axis=0) & ~first)

    def _combine(self, vectors: list[np.ndarray]) -> np.ndarray:
        """Computed in the tensors' own dtype."""
        dtype = self.y.dtype.numpy() if self.y.dtype is not None else np.dtype(np.float32)
        if dtype.kind in "iu":  # it has no NaN, and divides and overflows in its own ways
            zero = np.any([vector == 0 for vector in vectors], axis=0)
            return np.where(zero & (self.node.op_type == "Mul"), 0.0, LIVE)
        own = [vector.astype(dtype) for vector in vectors]
        with np.errstate(all="ignore"):
            if self.node.op_type == "PRelu":
                x, slope = own
                result = np.where(x >= 0, x, x * slope)
                result = np.where(np.isnan(own[0]), LIVE, np.where(own[0] == 0, 0, result))
            elif self.node.op_type == "Mean":
                result = reduce(np.add, own) / dtype.type(len(own))
            else:
                result = reduce(_FUNCTIONS[self.node.op_type], own)
        result = np.asarray(result, np.float64)
        if self.node.op_type == "Mul":
            result = np.where(np.any([vector == 0 for vector in vectors], axis=0), 0.0, result)
        if self.node.op_type == "Pow":  # numpy: anything to the power of 0, and 1 to any, are 1
            result = np.where(np.any([np.isnan(v) for v in vectors], axis=0), LIVE, result)
        return np.where(np.isfinite(result), result, LIVE)


class Where(Elementwise):
    """y = condition ? a : b; the condition may not differ along an axis that is cut."""

    ops: ClassVar[frozenset[str]] = frozenset({"Where"})

    @property
    def operands(self) -> list[ir.Value]:
        return [value for value in self.node.inputs[1:] if value is not None]

    def ties(self) -> Iterable[Tie | None]:
        for tie in super().ties():
            if tie is not None and not self._varies(tie.right[1]):
                yield tie

    def _combine(self, vectors: list[np.ndarray]) -> np.ndarray:
        a, b = vectors
        return np.where(a == b, a, LIVE)

    def _varies(self, axis: int) -> bool:
        return any(
            at == axis and axis_size(self.x, under) != 1 for at, under in aligned(self.x, self.y)
        )


def aligned(value: ir.Value, y: ir.Value) -> Iterable[tuple[int, int]]:
    """Pairs (axis of y, axis of value) of known sizes, aligned from the right."""
    shift = (rank(y) or 0) - (rank(value) or 0)
    for axis in range(max(shift, 0), rank(y) or 0):
        if axis_size(value, axis - shift) is not None and axis_size(y, axis) is not None:
            yield axis, axis - shift


def spread(known: Values, value: ir.Value, y: ir.Value, axis: int, size: int) -> np.ndarray:
    """What is known of an operand along an axis of the result, float64 [size]."""
    under = dict(aligned(value, y)).get(axis)
    if under is not None:
        return np.broadcast_to(known.of(value, under), size)
    array = constant_of(value)  # the tensor is stretched along it: one constant, if it holds one
    same = array is not None and array.size > 0 and bool((array == array.flat[0]).all())
    return np.full(size, float(array.flat[0]) if array is not None and same else LIVE)
