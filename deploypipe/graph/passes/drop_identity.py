"""Drop nodes that provably hand on their input unchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from deploypipe.graph import GraphPass, Outcome
from deploypipe.graph.constants import constant_of, input_of, is_constant
from deploypipe.graph.shapes import shaped_values

Shape = tuple[int | str | None, ...]
Values = dict[str | None, ir.Value]
"""Name -> value with inferred shape and type."""


@dataclass(frozen=True)
class DropIdentity(GraphPass):
    """Drop Identity, Dropout in inference, and other nodes that change nothing.

    ::

        x -> Reshape(to the shape that x has) -> y -> f        becomes        x -> f

    The others are Cast, Concat, Expand, Flatten, Pad, Reshape, Slice and Transpose, a sum with zeros
    and the second of two Relus, where types, shapes or constants prove it.  A graph's inputs and
    outputs keep their names; a node between the two stays.
    """

    def call(self, model: ir.Model) -> Outcome:
        suspects = [n for n in model.graph if n.op_type in _PROOFS and not n.domain and n.inputs]
        values = shaped_values(model) if suspects else {}
        changes, refusals = [], []
        for node in suspects:
            if not _PROOFS[node.op_type](node, values):
                continue
            if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
                refusals.append(f"kept {node.op_type} '{node.name}': its second output is used")
            elif not _bypass(node):
                refusals.append(
                    f"kept {node.op_type} '{node.name}': it separates an input or "
                    "constant of the graph, or another output, from an output"
                )
            else:
                changes.append(f"dropped {node.op_type} '{node.name}', which changed nothing")
        return Outcome(model, bool(changes), changes, refusals)


def _bypass(node: ir.Node) -> bool:
    """Let the node's input stand for its output; False if a name of the interface forbids it."""
    source, out, graph = _handed(node), node.outputs[0], node.graph
    if source is None or graph is None:
        return False
    if not out.is_graph_output():
        out.replace_all_uses_with(source)
        graph.remove(node, safe=True)
        return True
    if source.producer() is None or source.graph is not graph or source.is_graph_output():
        return False
    name = out.name
    source.shape, source.type = out.shape, out.type or source.type
    out.replace_all_uses_with(source, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    source.name = name
    return True


def _handed(node: ir.Node) -> ir.Value | None:
    """The input that the output is equal to."""
    turned = node.op_type == "Add" and is_constant(node.inputs[0])
    return node.inputs[1] if turned else node.inputs[0]


def _always(_node: ir.Node, _: Values) -> bool:
    return True


def _dropout(node: ir.Node, _: Values) -> bool:
    mode = input_of(node, 2)
    training = constant_of(mode)
    return mode is None or (training is not None and not training.any())


def _sum(node: ir.Node, values: Values) -> bool:
    """A sum with zeros that do not stretch the other operand (-0.0 becomes 0.0, an equal number)."""
    handed = _handed(node)
    other = node.inputs[1] if handed is node.inputs[0] else node.inputs[0]
    array = constant_of(other)
    before, after = _shape_of(handed, values), _shape_of(node.outputs[0], values)
    return array is not None and not array.any() and before is not None and before == after


def _relu(node: ir.Node, _: Values) -> bool:
    producer = node.inputs[0].producer() if node.inputs[0] is not None else None
    return producer is not None and producer.op_type == "Relu" and producer.domain == ""


def _cast(node: ir.Node, values: Values) -> bool:
    source = values.get(node.inputs[0].name) if node.inputs[0] is not None else None
    return source is not None and source.dtype == node.attributes.get_int("to", 0)


def _concat(node: ir.Node, _: Values) -> bool:
    return len(node.inputs) == 1


def _same_shape(node: ir.Node, values: Values) -> bool:
    """Equal known sizes; one dimension may be unknown if the element counts must agree anyway."""
    before, after = _shape_of(node.inputs[0], values), _shape_of(node.outputs[0], values)
    if before is None or after is None or len(before) != len(after):
        return False
    differ = [
        pair for pair in zip(before, after, strict=True) if pair[0] is None or pair[0] != pair[1]
    ]
    if not differ:
        return True
    numbers = [size for size in before if isinstance(size, int)]
    # Element counts agree in a Reshape: with all others equal, positive numbers, so is the last.
    leftover = len(differ) == 1 and len(numbers) == len(before) - 1 and all(numbers)
    symbolic = all(not isinstance(size, int) for pair in differ for size in pair)
    return leftover and symbolic and node.op_type in ("Reshape", "Flatten")


def _shape_of(value: ir.Value | None, values: Values) -> Shape | None:
    """Sizes, symbols, or None for an unnamed dimension; None if the rank is unknown."""
    known = values.get(value.name) if value is not None else None
    if known is None or known.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else dim.value for dim in known.shape)


def _pad(node: ir.Node, _: Values) -> bool:
    pads = node.attributes.get_ints("pads", None)
    if pads is not None:
        return not any(pads)
    array = constant_of(input_of(node, 1))
    return array is not None and not array.any()


def _transpose(node: ir.Node, _: Values) -> bool:
    perm = node.attributes.get_ints("perm", None)
    return perm is not None and list(perm) == list(range(len(perm)))


def _slice(node: ir.Node, values: Values) -> bool:
    """Every axis from 0 in steps of 1 to an end that is past any size, or past its known size."""
    shape = _shape_of(node.inputs[0], values)
    starts, ends = constant_of(input_of(node, 1)), constant_of(input_of(node, 2))
    axes, steps = constant_of(input_of(node, 3)), constant_of(input_of(node, 4))
    if starts is None or ends is None or starts.any():
        return False
    if (steps is None and input_of(node, 4)) or (steps is not None and (steps != 1).any()):
        return False
    if axes is None and input_of(node, 3):
        return False
    where = range(len(ends)) if axes is None else [int(axis) for axis in axes]
    return all(_past(int(end), axis, shape) for end, axis in zip(ends, where, strict=True))


def _past(end: int, axis: int, shape: Shape | None) -> bool:
    size = shape[axis] if shape is not None else None
    return end >= 2**31 - 1 or (isinstance(size, int) and end >= size)


_PROOFS: dict[str, Callable[[ir.Node, Values], bool]] = {
    "Add": _sum,
    "Cast": _cast,
    "Concat": _concat,
    "Dropout": _dropout,
    "Expand": _same_shape,
    "Flatten": _same_shape,
    "Identity": _always,
    "Pad": _pad,
    "Relu": _relu,
    "Reshape": _same_shape,
    "Slice": _slice,
    "Transpose": _transpose,
}
