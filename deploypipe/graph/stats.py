"""How large a model is: parameters, multiply-accumulates, nodes, bytes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from deploypipe.graph.constants import input_of
from deploypipe.graph.files import weight_bytes
from deploypipe.graph.shapes import sizes_of, with_shapes


@dataclass(frozen=True)
class GraphStats:
    """What can be counted without running the model.

    ``parameters``: elements of weights and biases, each shared one once; no scales, zero points,
    running statistics, bounds or shapes.  ``macs``: multiply-accumulates of Conv, ConvTranspose,
    Gemm and MatMul (their integer forms too) for one run, None where a shape is unknown, and then
    ``why`` tells which.  ``bytes``: of all initializers.  ``quantized``: the share of the MACs
    whose two operands are integers, 0 to 1.
    """

    parameters: int
    macs: int | None
    nodes: int
    bytes: int
    ops: Mapping[str, int]
    quantized: float | None
    why: str | None = None


def stats(model: ir.Model, batch: int = 1) -> GraphStats:
    """Count ``model`` as it stands; a dynamic batch is taken as ``batch``."""
    shaped = with_shapes(model, batch)
    nodes = list(shaped.graph.all_nodes())
    counted = {node: macs_of(node) for node in nodes if node.op_type in _DATA and not node.domain}
    unknown = _unknown(counted, shaped.graph)
    total = None if unknown else sum(macs or 0 for macs in counted.values())
    integer = sum(macs or 0 for node, macs in counted.items() if _is_integer(node))
    return GraphStats(
        parameters=sum(_elements(value) for value in _parameters(nodes)),
        macs=total,
        nodes=len(nodes),
        bytes=weight_bytes(model),
        ops=dict(sorted(Counter(_op(node) for node in nodes).items())),
        quantized=integer / total if total else None,
        why=unknown,
    )


# Positions of the two operands of every op whose MACs are counted.
_DATA = {
    "Conv": (0, 1),
    "ConvTranspose": (0, 1),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "ConvInteger": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearConv": (0, 3),
    "QLinearMatMul": (0, 3),
}

# Inputs that hold no trained weight although they are float (or, for the Q ops, integers).
_NO_PARAMETER = {
    "BatchNormalization": {3, 4},
    "Clip": {1, 2},
    "ConvInteger": {2, 3},
    "DequantizeLinear": {1, 2},
    "Dropout": {1, 2},
    "MatMulInteger": {2, 3},
    "Pad": {1, 2, 3},
    "QLinearConv": {1, 2, 4, 5, 6, 7},
    "QLinearMatMul": {1, 2, 4, 5, 6, 7},
    "QuantizeLinear": {1, 2},
    "Resize": {1, 2, 3},
    "Upsample": {1},
}


def macs_of(node: ir.Node) -> int | None:
    """Multiply-accumulates of one node whose values carry shapes; None if one is unknown."""
    first, second = _DATA[node.op_type]
    data, weight = sizes_of(input_of(node, first)), sizes_of(input_of(node, second))
    out = sizes_of(node.outputs[0])
    if data is None or weight is None or out is None:
        return None
    match node.op_type:
        case "Conv" | "ConvInteger" | "QLinearConv":
            return math.prod(out) * math.prod(weight[1:])
        case "ConvTranspose":
            return math.prod(data) * math.prod(weight[1:])
        case "Gemm":
            transposed = node.attributes.get_int("transA", 0)
            return math.prod(out) * data[0 if transposed else 1]
        case _:
            return math.prod(out) * data[-1]


def _unknown(counted: Mapping[ir.Node, int | None], graph: ir.Graph) -> str | None:
    for node, macs in counted.items():
        if macs is None:
            return f"the shapes of {node.op_type} '{node.name}' are not known"
        if node.graph is not graph:
            return (
                f"{node.op_type} '{node.name}' runs an unknown number of times, inside a subgraph"
            )
    return None


def _is_integer(node: ir.Node) -> bool:
    if "Integer" in node.op_type or node.op_type.startswith("QLinear"):
        return True
    makers = [value.producer() for value in node.inputs[:2] if value is not None]
    return all(m is not None and m.op_type == "DequantizeLinear" for m in makers)


def _parameters(nodes: list[ir.Node]) -> set[ir.Value]:
    return {value for node in nodes for value in _parameters_of(node)}


def _parameters_of(node: ir.Node) -> Iterator[ir.Value]:
    """Constant inputs that hold trained numbers: floats, and integers that stand for floats."""
    skipped = _NO_PARAMETER.get(node.op_type, set())
    integers = node.op_type == "DequantizeLinear" or node.op_type in _DATA
    for index, value in enumerate(node.inputs):
        if value is None or index in skipped:
            continue
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is None or not (integers or tensor.dtype.is_floating_point()):
            continue
        if value.is_initializer() or tensor.size > 1:  # a scalar Constant is part of the formula
            yield value


def _elements(value: ir.Value) -> int:
    tensor = ir.convenience.get_const_tensor(value)
    return 0 if tensor is None else math.prod(tensor.shape.numpy())


def _op(node: ir.Node) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type
