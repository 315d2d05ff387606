"""Elementwise functions of two tensors, with broadcasting: Add, Sub, Mul, Div.

An axis of size 1 is stretched, so it is tied to nothing; the others are tied index by index.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Tie, axis_size, rank
from deploypipe.graph.channels.rule import LIVE, Needs, Rule, Values
from deploypipe.graph.constants import constant_of


class Binary(Rule):
    """Two tensors in, one out."""

    ops: ClassVar[frozenset[str]] = frozenset({"Add", "Sub", "Mul", "Div"})

    def ties(self, node: ir.Node) -> Iterable[Tie | None]:
        y = node.outputs[0]
        for value in node.inputs:
            for axis, under in _aligned(value, y):
                assert value is not None
                yield Tie.same((value, under), (y, axis))

    def values(self, node: ir.Node, known: Values) -> None:
        a, b = node.inputs
        y = node.outputs[0]
        places = [dict(_aligned(value, y)) for value in (a, b)]
        for axis in range(rank(y) or 0):
            size = axis_size(y, axis)
            if size is None:
                continue
            left, right = (
                _spread(known, value, where.get(axis), size)
                for value, where in zip((a, b), places, strict=True)
            )
            known[y, axis] = _combine(node.op_type, left, right)

    def demand(self, node: ir.Node, needs: Needs) -> None:
        y = node.outputs[0]
        for value in node.inputs:
            for axis, under in _aligned(value, y):
                assert value is not None
                wanted = needs.of(y, axis)
                size = axis_size(value, under) or 0
                whole = np.full(size, wanted.any())
                needs.add(value, under, wanted if size == len(wanted) else whole)


def _aligned(value: ir.Value | None, y: ir.Value) -> Iterable[tuple[int, int]]:
    """Pairs (axis of y, axis of value), aligned from the right."""
    if value is None or rank(value) is None or rank(y) is None:
        return
    shift = (rank(y) or 0) - (rank(value) or 0)
    for axis in range(max(shift, 0), rank(y) or 0):
        if axis_size(value, axis - shift) is not None and axis_size(y, axis) is not None:
            yield axis, axis - shift


def _spread(known: Values, value: ir.Value | None, axis: int | None, size: int) -> np.ndarray:
    if value is None:
        return np.full(size, LIVE)
    if axis is None:  # the tensor is stretched along it: one constant, if it holds only one
        array = constant_of(value)
        same = array is not None and array.size > 0 and bool((array == array.flat[0]).all())
        return np.full(size, float(array.flat[0]) if array is not None and same else LIVE)
    return np.broadcast_to(known.of(value, axis), size)


def _combine(op: str, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Only what needs no rounding is called constant: zeros, and sums with zero."""
    if op in ("Add", "Sub"):
        sign = 1.0 if op == "Add" else -1.0
        return np.where(left == 0, sign * right, np.where(right == 0, left, LIVE)) + 0.0
    if op == "Mul":
        return np.where((left == 0) | (right == 0), 0.0, LIVE)
    return np.where((left == 0) & (right != 0) & ~np.isnan(right), 0.0, LIVE)
