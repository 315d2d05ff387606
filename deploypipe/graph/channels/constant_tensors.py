"""Tensors all of whose channels are constant: their readers get the constant itself.

    Add(x, Relu(Conv(z, 0, b)))  becomes  Add(x, relu(b))      with relu(b) of shape [1, C, 1, 1]

Only readers that stretch an operand can take the small form; that needs another operand that has
the result's shape already.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import axis_size, rank
from deploypipe.graph.channels.dataflow import Dataflow
from deploypipe.graph.channels.ops.binary import Elementwise
from deploypipe.graph.channels.removal import Removal
from deploypipe.graph.channels.rule import Kept
from deploypipe.graph.constants import add_initializer, is_constant


def fold_constant_tensors(flow: Dataflow, removal: Removal) -> dict[ir.Value, int]:
    """Replace constant operands in place, before the removal is carried out.

    Returns:
        The tensors that were replaced, with their axis.
    """
    kept = Kept(removal.indices)
    found: dict[ir.Value, int] = {}
    for node in list(flow.graph):
        for value in node.outputs:
            axis = _constant_axis(flow, value)
            if axis is not None and _replace(flow, value, axis, kept):
                found[value] = axis
    return found


def _constant_axis(flow: Dataflow, value: ir.Value) -> int | None:
    """An axis along which every cell is known."""
    if value in flow.values.patterns:
        return None
    for axis in range(rank(value) or 0):
        if (value, axis) in flow.cells.first and not is_constant(value):
            numbers = flow.number[flow.cells.ids((value, axis))]
            if len(numbers) and not np.isnan(numbers).any():
                return axis
    return None


def _replace(flow: Dataflow, value: ir.Value, axis: int, kept: Kept) -> bool:
    uses = [use for use in value.uses() if _stretches(flow, use.node, use.idx)]
    if not uses or value.dtype is None or kept.empty(value):
        return False
    shape = [1] * (rank(value) or 0)
    shape[axis] = -1
    numbers = flow.number[flow.cells.ids((value, axis))][kept.index(value, axis)]
    numbers = numbers.astype(value.dtype.numpy())
    small = add_initializer(flow.graph, f"{value.name}.constant", numbers.reshape(shape))
    for use in uses:
        if _stretches(flow, use.node, use.idx):  # an Add(x, x) keeps one of the two
            use.node.replace_input_with(use.idx, small)
    return True


def _stretches(flow: Dataflow, node: ir.Node, place: int) -> bool:
    """Whether another operand of an elementwise node has the shape of its result."""
    if not isinstance(flow.rules.get(node), Elementwise) or (node.op_type == "PRelu" and not place):
        return False
    y = node.outputs[0]
    others = [x for k, x in enumerate(node.inputs) if k != place and x is not None]
    return any(not is_constant(x) and _same_shape(x, y) for x in others)


def _same_shape(x: ir.Value, y: ir.Value) -> bool:
    """Equal dimensions; a dynamic one only where both carry one name."""
    if rank(x) is None or rank(x) != rank(y):
        return False
    return all(
        axis_size(x, axis) == axis_size(y, axis) is not None or _one_name(x, y, axis)
        for axis in range(rank(x) or 0)
    )


def _one_name(x: ir.Value, y: ir.Value, axis: int) -> bool:
    assert x.shape is not None
    assert y.shape is not None
    left, right = x.shape[axis], y.shape[axis]
    named = isinstance(left, ir.SymbolicDim) and isinstance(right, ir.SymbolicDim)
    return named and left.value is not None and left.value == right.value  # type: ignore[union-attr]
