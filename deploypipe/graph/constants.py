"""Constant values in a graph: reading them and adding new ones."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Array = npt.NDArray[Any]


def is_constant(value: ir.Value | None) -> bool:
    """Whether :func:`constant_of` gives an array; it may have to copy a large one, this does not."""
    if value is None or value.is_graph_input():
        return False
    tensor = ir.convenience.get_const_tensor(value)
    return tensor is not None and tensor.dtype != ir.DataType.STRING


def constant_of(value: ir.Value | None) -> Array | None:
    """The array of an initializer or Constant node, None if the value is not constant.

    An initializer that is also a graph input is only a default, hence not constant.
    """
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None or tensor.dtype == ir.DataType.STRING else tensor.numpy()


def input_of(node: ir.Node, index: int) -> ir.Value | None:
    """The node's input at ``index``, None if it is absent."""
    return node.inputs[index] if index < len(node.inputs) else None


def add_initializer(graph: ir.Graph, wish: str, array: Array) -> ir.Value:
    """A new initializer called ``wish``, or ``wish_1`` and so on if that name is taken."""
    name = free_name(graph, wish)
    tensor = ir.tensor(np.asarray(array, order="C"), name=name)  # 0-d stays 0-d
    value = ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    graph.register_initializer(value)
    _, _, taken = _taken[graph]
    taken.add(name)
    _taken[graph] = (len(graph), len(graph.initializers), taken)
    return value


def free_name(graph: ir.Graph, wish: str) -> str:
    """``wish``, or ``wish_1`` and so on if a value has that name."""
    if _taken.get(graph, (-1, -1))[:2] != (len(graph), len(graph.initializers)):
        _taken[graph] = (len(graph), len(graph.initializers), _names(graph))
    taken = _taken[graph][2]
    name, number = wish, 0
    while name in taken:
        number += 1
        name = f"{wish}_{number}"
    return name


_taken: WeakKeyDictionary[ir.Graph, tuple[int, int, set[str | None]]] = WeakKeyDictionary()
"""Names in use, looked at anew when the number of nodes or initializers has changed."""


def _names(graph: ir.Graph) -> set[str | None]:
    values = [*graph.inputs, *graph.initializers.values()]
    values += [output for node in graph.all_nodes() for output in node.outputs]
    values += [v for sub in graph.subgraphs() for v in [*sub.inputs, *sub.initializers.values()]]
    return {value.name for value in values}
