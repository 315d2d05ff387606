"""A branch of a residual sum computes only the channels that are not zero.

    y = x + act(Conv(z, w))    becomes    y = x + Pad(act(Conv(z, w[live])))

The channels of x live on, so the dead ones of the branch cannot leave the graph; but nobody has to
compute them.  Live channels that lie together are put in place by a Pad, others by a Gather from
the narrow result with one zero channel behind it.  Both only move numbers: the sums stay the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from deploypipe.graph import GraphPass, Outcome
from deploypipe.graph.channels.cells import axis_size, rank
from deploypipe.graph.channels.dataflow import Dataflow
from deploypipe.graph.channels.linear import set_array
from deploypipe.graph.channels.ops.conv import Conv
from deploypipe.graph.channels.ops.unary import Unary
from deploypipe.graph.constants import (
    add_initializer,
    constant_of,
    free_name,
    input_of,
    is_constant,
)
from deploypipe.graph.shapes import infer_shapes

_PADS_AS_INPUT = 11
"""The opset from which Pad takes its sizes as an input."""


@dataclass(frozen=True)
class NarrowResidual(GraphPass):
    """Compute only the live channels of a residual branch, where at least ``share`` are zero."""

    share: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], got {self.share}")

    def call(self, model: ir.Model) -> Outcome:
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        infer_shapes(model)
        flow, changes, refusals = Dataflow(model.graph), [], []
        branches = [(node, place) for node in flow.rules for place in _branches(node)]
        for add, place in branches:
            live = _live(flow, add, place, self.share)
            if live is None:
                continue
            branch = add.inputs[place]
            assert branch is not None
            found = _find(flow, branch, live)
            if not isinstance(found, _Branch):
                refusals.append(f"Add '{add.name}' keeps its branch '{branch.name}': {found}")
                continue
            _narrow(found)
            add.replace_input_with(place, _put_in_place(model.graph, add, found))
            what = f"computes {len(live)} of {found.channels} channels"
            changes.append(f"Conv '{found.conv.name}' {what}, the others are zero")
        return Outcome(model, bool(changes), changes, refusals)


@dataclass(frozen=True)
class _Branch:
    """``conv`` -> ``values``, the last of which is added; ``live`` int64 of its ``channels``."""

    conv: ir.Node
    values: tuple[ir.Value, ...]
    live: np.ndarray
    channels: int


def _branches(node: ir.Node) -> tuple[int, ...]:
    """The operands of a sum that have as many channels as it."""
    if node.op_type != "Add" or node.domain:
        return ()
    y, size = node.outputs[0], axis_size(node.outputs[0], 1)
    alike = [x is not None and rank(x) == rank(y) and axis_size(x, 1) == size for x in node.inputs]
    return (0, 1) if size and all(alike) else ()


def _live(flow: Dataflow, add: ir.Node, place: int, share: float) -> np.ndarray | None:
    """The branch's channels that are not zero; None where there is little to gain.

    What is zero in both operands leaves the graph by other means, and so do sums with nothing.
    """
    dead, other = (flow.values.of(add.inputs[k], 1) == 0 for k in (place, 1 - place))
    enough = share * len(dead) <= dead.sum() < len(dead)
    return np.flatnonzero(~dead) if enough and (dead & ~other).any() else None


def _find(flow: Dataflow, branch: ir.Value, live: np.ndarray) -> _Branch | str:
    """The convolution that ends a branch, or the reason why it cannot be narrowed."""
    value, values = branch, [branch]
    while True:
        node = value.producer()
        if node is None:
            return "it comes from no convolution"
        if len(value.uses()) > 1 or value.is_graph_output():
            return f"'{value.name}' has other readers"
        rule = flow.rules.get(node)
        if isinstance(rule, Conv):
            break
        if not isinstance(rule, Unary):
            return f"it ends in {node.op_type} '{node.name}'"
        value = rule.x
        values.insert(0, value)
    why = _obstacle(flow, rule)
    return why or _Branch(node, tuple(values), live, axis_size(branch, 1) or 0)


def _obstacle(flow: Dataflow, conv: Conv) -> str | None:
    if conv.groups != 1:
        return f"Conv '{conv.node.name}' has groups"
    if not is_constant(conv.weights) or not (conv.bias is None or is_constant(conv.bias)):
        return f"Conv '{conv.node.name}' has weights that are computed"
    if flow.graph.opset_imports.get("", _PADS_AS_INPUT) < _PADS_AS_INPUT:
        return f"Pad is of an opset before {_PADS_AS_INPUT}"
    return None


def _narrow(branch: _Branch) -> None:
    """Cut the convolution's outputs; what others read of its weights stays."""
    graph = branch.conv.graph
    assert isinstance(graph, ir.Graph)
    for place in (1, 2):
        value = input_of(branch.conv, place)
        array = constant_of(value)
        if value is None or array is None:
            continue
        if len(value.uses()) > 1 or value.is_graph_output():
            new = add_initializer(graph, f"{value.name}.live", array[branch.live])
            branch.conv.replace_input_with(place, new)
        else:
            set_array(value, array[branch.live])
    for value in branch.values:
        value.shape = _resized(value, len(branch.live))


def _put_in_place(graph: ir.Graph, add: ir.Node, branch: _Branch) -> ir.Value:
    """The branch with all its channels again; the new nodes stand before ``add``."""
    value, live = branch.values[-1], branch.live
    first, count = int(live[0]), len(live)
    together = int(live[-1]) - first + 1 == count
    before, behind = (first, branch.channels - first - count) if together else (0, 1)
    pads = np.zeros((2, rank(value) or 0), np.int64)
    pads[:, 1] = before, behind
    given = add_initializer(graph, f"{value.name}.pads", pads.reshape(-1))
    nodes = [ir.node("Pad", [value, given], name=f"{value.name}.pad")]
    if not together:
        order = np.full(branch.channels, count, np.int64)
        order[live] = np.arange(count)
        index = add_initializer(graph, f"{value.name}.order", order)
        padded = nodes[0].outputs[0]
        gather = ir.node("Gather", [padded, index], {"axis": 1}, name=f"{value.name}.gather")
        nodes.append(gather)
    for node, size in zip(nodes, (before + count + behind, branch.channels), strict=False):
        out = node.outputs[0]
        out.name = free_name(graph, f"{node.name}.out")
        out.type, out.shape = value.type, _resized(value, size)
    graph.insert_before(add, nodes)
    return nodes[-1].outputs[0]


def _resized(value: ir.Value, channels: int) -> ir.Shape:
    assert value.shape is not None  # its channels were counted
    return ir.Shape([channels if axis == 1 else dim for axis, dim in enumerate(value.shape)])
