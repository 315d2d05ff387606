"""Pooling and reductions over other axes: channels pass untouched.

A constant c survives MaxPool (padding is minus infinity) and global pooling; behind an AveragePool
whose padding or ceil mode dilutes the border only zero survives.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Tie, rank
from deploypipe.graph.channels.rule import LIVE, Rule, Values, integer, ints
from deploypipe.graph.constants import constant_of


class Pooling(Rule):
    """Pools, and Reduce ops on the axes that they leave."""

    ops: ClassVar[frozenset[str]] = frozenset(
        {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"}
        | {"ReduceMean", "ReduceMax", "ReduceSum"}
    )

    def ties(self, node: ir.Node) -> Iterable[Tie | None]:
        x, y = node.inputs[0], node.outputs[0]
        if x is None:
            return
        if not node.op_type.startswith("Reduce"):
            yield Tie.same((x, 1), (y, 1))
            return
        for axis, after in _surviving(node, rank(x)):
            yield Tie.same((x, axis), (y, after))

    def values(self, node: ir.Node, known: Values) -> None:
        super().values(node, known)
        if node.op_type in ("MaxPool", "GlobalMaxPool", "ReduceMax"):
            return
        for axis in range(rank(node.outputs[0]) or 0):
            vector = known.of(node.outputs[0], axis)
            known[node.outputs[0], axis] = np.where(vector == 0, 0.0, LIVE)


def _surviving(node: ir.Node, ndim: int | None) -> Iterable[tuple[int, int]]:
    """Pairs (axis of x, axis of y) of the axes that a Reduce op leaves."""
    if ndim is None:
        return
    axes = ints(node, "axes", [])
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        array = constant_of(node.inputs[1])
        if array is None:
            return
        axes = [int(axis) for axis in array.reshape(-1)]
    gone = {axis % ndim for axis in axes}
    if not gone:
        return  # all axes, or none at all: not ours
    keep = integer(node, "keepdims", 1)
    left = [axis for axis in range(ndim) if axis not in gone]
    for place, axis in enumerate(left):
        yield axis, axis if keep else place
