"""Run one node with onnx's own reference implementation, in double precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import AttributeProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from deploypipe.graph.channels.proof.wide import is_narrow, widened


class CannotEvaluate(Exception):  # noqa: N818
    """A graph has no answer in float64: ``op`` is to blame, ``why`` says for what."""

    def __init__(self, op: str, why: str) -> None:
        self.op, self.why = op, why
        super().__init__(f"{op}: {why}")


_NARROW = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16})
_TYPE_ATTRIBUTES = frozenset(
    {"to", "dtype", "output_dtype", "output_datatype", "softmax_precision", "stash_type"}
)
_FIXED_STASH = "LayerNormalization"  # takes no other type, and does not use it
_RANDOM = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
_SINGLE = frozenset(
    {
        "AffineGrid",
        "CausalConvWithState",
        "Erf",
        "Gelu",
        "GridSample",
        "LinearAttention",
        "MelWeightMatrix",
    }
)
"""Ops that onnx.reference computes in float32, some of them silently."""
OLDEST = {"DequantizeLinear": 19}
"""Versions that onnx.reference begins with; an older one means the same there."""


def run_alone(node: ir.Node, inputs: Sequence[Any], captured: Mapping[str, Any]) -> list[Any]:
    """The node's outputs; ``captured`` are the outer tensors that its subgraphs read, by name.

    Raises:
        CannotEvaluate: see there.
    """
    for kind in _kinds(node):
        if kind in _RANDOM:
            raise CannotEvaluate(kind, "draws random numbers")
        if kind in _SINGLE:
            raise CannotEvaluate(kind, "onnx.reference computes it in float32")
    names = [str(value.name) if value is not None else "" for value in node.inputs]
    feeds = {**captured, **{name: array for name, array in zip(names, inputs, strict=True) if name}}
    try:
        results = ReferenceEvaluator(_model(node, feeds)).run(None, feeds)
    except Exception as error:  # each op of the reference fails in a way of its own
        raise CannotEvaluate(_name(node), f"onnx.reference: {_reason(error)}") from error
    if any(is_narrow(array) for array in results):
        raise CannotEvaluate(node.op_type, "onnx.reference answers in less than float64")
    return list(results)


def _kinds(node: ir.Node) -> Iterator[str]:
    """The op types of a node and of all in its subgraphs."""
    yield node.op_type
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield from (inner.op_type for inner in attribute.as_graph().all_nodes())


def _model(node: ir.Node, feeds: Mapping[str, Any]) -> onnx.ModelProto:
    """The node as a model of its own; typed, for the ops that are functions of typed inputs."""
    copied = ir.to_proto(node)
    _widen(copied)
    typed = [_typed(name, array) for name, array in feeds.items()]
    outputs = [onnx.ValueInfoProto(name=name) for name in copied.output if name]
    graph = onnx.helper.make_graph([copied], "alone", typed, outputs)
    versions = dict(node.graph.opset_imports) if node.graph is not None else {}
    versions[node.domain] = max(versions.get(node.domain, 1), OLDEST.get(node.op_type, 1))
    opsets = [onnx.helper.make_opsetid(domain, number) for domain, number in versions.items()]
    return onnx.helper.make_model(graph, opset_imports=opsets)


def _typed(name: str, array: Any) -> onnx.ValueInfoProto:
    if not isinstance(array, np.ndarray):
        return onnx.ValueInfoProto(name=name)
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.helper.make_tensor_value_info(name, kind, array.shape)


def _widen(node: onnx.NodeProto) -> None:
    """Make a node ask for double wherever it asks for a narrower float; its subgraphs too."""
    if node.op_type == "ConstantOfShape" and not node.attribute:
        node.attribute.append(onnx.helper.make_attribute("value", _tensor([0.0])))
    for attribute in node.attribute:
        if node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            numbers = attribute.f if attribute.name == "value_float" else attribute.floats
            attribute.CopyFrom(onnx.helper.make_attribute("value", _tensor(numbers)))
        if attribute.name in _TYPE_ATTRIBUTES and attribute.i in _NARROW:
            attribute.i = attribute.i if node.op_type == _FIXED_STASH else TensorProto.DOUBLE
        if attribute.type == AttributeProto.TENSOR:
            _widen_tensor(attribute.t)
        for graph in [attribute.g, *attribute.graphs]:
            _widen_graph(graph)


def _widen_graph(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for node in graph.node:
        _widen(node)
    for value in [*graph.input, *graph.output, *graph.value_info]:
        if value.type.tensor_type.elem_type in _NARROW:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE


def _tensor(numbers: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(numbers, np.float64))


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _NARROW:
        array = widened(numpy_helper.to_array(tensor))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _name(node: ir.Node) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
