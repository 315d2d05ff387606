"""Run a graph in float64, one node at a time, on little memory.

Every float tensor is computed in double whatever the model's dtype: casts to a float type widen,
weights are widened when a node reads them, and a tensor is let go behind its last reader.  That is
the function which the weights, as they are stored, define.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from deploypipe.graph.channels.proof.kernels import kernel_of
from deploypipe.graph.channels.proof.reference import CannotEvaluate, run_alone
from deploypipe.graph.channels.proof.wide import widened

Array = npt.NDArray[Any]
Watch = Callable[[ir.Node, Sequence[Any], Sequence[Any]], None]
"""Sees a node with its inputs (constants in their stored dtype) and its outputs."""


def evaluate64(
    model: ir.Model, feeds: Mapping[str, Array], watch: Watch | None = None
) -> dict[str, Array]:
    """The outputs of ``model`` by name, floats as float64; ``model`` stays as it is.

    Float feeds of any width are widened.  What ``watch`` raises ends the run.

    Raises:
        CannotEvaluate: an op is unknown, random, or not to be had in double precision.
    """
    graph = _inlined(model).graph
    known: dict[ir.Value, Any] = {
        value: widened(feeds[str(value.name)]) for value in graph.inputs if value.name in feeds
    }
    last_reads = _last_reads(graph)
    for node in graph:
        if node.op_type != "Constant":
            _step(node, known, watch)
        for value in last_reads.get(node, ()):
            known.pop(value, None)
    return {str(value.name): widened(_read(value, known)) for value in graph.outputs}


def _inlined(model: ir.Model) -> ir.Model:
    if not model.functions:
        return model
    copy = model.clone()
    InlinePass()(copy)
    return copy


def _step(node: ir.Node, known: dict[ir.Value, Any], watch: Watch | None) -> None:
    inputs = [None if value is None else _read(value, known) for value in node.inputs]
    kernel = kernel_of(node)
    if kernel is not None:
        outputs = [kernel(node, *inputs)]
    else:
        captured = {str(value.name): widened(_read(value, known)) for value in _captured(node)}
        outputs = run_alone(node, [widened(array) for array in inputs], captured)
    if watch is not None:
        watch(node, inputs, outputs)
    known.update(zip(node.outputs, outputs, strict=False))


def _read(value: ir.Value, known: Mapping[ir.Value, Any]) -> Any:
    """A tensor that was computed, or a constant in its stored dtype."""
    if value in known:
        return known[value]
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None:
        op = getattr(value.producer(), "op_type", "the graph's input")
        raise CannotEvaluate(str(op), f"'{value.name}' has no value")
    return tensor.numpy()


def _last_reads(graph: ir.Graph) -> dict[ir.Node, list[ir.Value]]:
    """Node -> the computed tensors that nothing behind it reads."""
    kept, seen = set(graph.outputs), set[ir.Value]()
    found: dict[ir.Node, list[ir.Value]] = {}
    for node in reversed(graph):
        # A tensor that nobody reads goes as soon as it is there.
        near = {*node.outputs, *_captured(node), *(v for v in node.inputs if v is not None)}
        found[node] = list(near - seen - kept)
        seen |= near
    return found


def _captured(node: ir.Node) -> Iterator[ir.Value]:
    """The outer tensors that the node's subgraphs read."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield from _read_inside(attribute.as_graph())


def _read_inside(graph: ir.Graph) -> Iterator[ir.Value]:
    nodes = list(graph.all_nodes())
    graphs = {id(graph), *(id(node.graph) for node in nodes)}
    for value in (v for n in nodes for v in n.inputs):
        if value is not None and id(value.graph) not in graphs:
            yield value
