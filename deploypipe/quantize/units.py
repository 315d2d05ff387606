"""Units: a node with what fuses into it, and why every other node stays float.

    x, w, b -> Conv -> Relu -> y        one unit: reads x, gives y, nothing in between is rounded
    x, w -> MatMul -> Add(b) -> y       one unit: b becomes its bias

A unit is made only if its whole pattern holds; whether it is quantized is decided in ``placement``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import onnx_ir as ir

from deploypipe.core.errors import UserError
from deploypipe.graph.constants import constant_of, input_of
from deploypipe.graph.shapes import shaped_values
from deploypipe.quantize.profile import Kind, Profile

Shapes = Mapping[str | None, ir.Value]


@dataclass(frozen=True)
class Unit:
    """A group of nodes that one integer kernel can compute; all fields are names and numbers.

    ``result`` is the output of the node itself, ``output`` what leaves after bias and activation.
    ``inputs`` are the activations that must be 8-bit.  ``axis`` is the weight's output channel.
    ``low`` and ``high`` bound the output because a folded Relu or Clip says so.
    """

    kind: Kind
    name: str
    op: str
    inputs: tuple[str, ...]
    result: str
    output: str
    weight: str | None = None
    bias: str | None = None
    axis: int = 0
    low: float = -math.inf
    high: float = math.inf
    float_output: bool = False
    """Whether the kernel gives floats where nobody asks for 8 bits."""


class Found(NamedTuple):
    """All units in the graph's order, and for each float node the reason."""

    units: tuple[Unit, ...]
    kept_float: dict[str, str]


class RefusedError(Exception):
    """A node cannot be a unit; the message is the reason."""


def find_units(model: ir.Model, profile: Profile) -> Found:
    """Every unit of the main graph that ``profile`` could fuse.

    Raises:
        UserError: the model is half precision or already quantized.
    """
    check_model(model)
    shapes = shaped_values(model)
    units: list[Unit] = []
    kept: dict[str, str] = {}
    taken: set[str | None] = set()
    for node in model.graph:
        if node.outputs[0].name in taken or not _is_float(node, shapes):
            continue
        try:
            unit = _unit_of(node, profile)
        except RefusedError as reason:
            kept[name_of(node)] = str(reason)
            continue
        units.append(unit)
        taken |= {value.name for value in _chain(unit, node)}
    for node in model.graph.all_nodes():
        kind = profile.kinds.get(node.op_type)
        if node.graph is not model.graph and kind is not None and kind.has_weight:
            kept[name_of(node)] = "it is inside a subgraph, which stays float"
    return Found(tuple(units), kept)


def check_model(model: ir.Model) -> None:
    """Raise a user's error for models that cannot be quantized as they are."""
    quantized = next((n for n in model.graph.all_nodes() if _QUANTIZED.match(n.op_type)), None)
    if quantized is not None:
        raise UserError(
            f"the model is already quantized: it has {quantized.op_type} '{name_of(quantized)}'",
            then="Give the float32 model; `deploypipe doctor --model FILE` tells what of a quantized "
            "one runs in float, and mends it",
        )
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    halves = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    half = next((v for v in values if v.dtype in halves), None)
    if half is not None and half.dtype is not None:
        raise UserError(
            f"'{half.name}' is {half.dtype.name.lower()}; quantization starts from float32",
            then="Give the model as it was before it was converted to half precision",
        )


def name_of(node: ir.Node) -> str:
    """The node's name, or for one without, the name of its first output."""
    return node.name or node.outputs[0].name or node.op_type


_QUANTIZED = re.compile("QLinear|QGemm|(Dynamic)?QuantizeLinear|DequantizeLinear|.*Integer|.*NBits")


def _is_float(node: ir.Node, shapes: Shapes) -> bool:
    """Whether the node computes floats; shape arithmetic and constants do not concern us."""
    output = shapes.get(node.outputs[0].name, node.outputs[0])
    constant = node.op_type == "Constant"
    return not constant and output.dtype in (ir.DataType.FLOAT, None)


def _unit_of(node: ir.Node, profile: Profile) -> Unit:
    kind = profile.kinds.get(node.op_type) if node.domain == "" else None
    if kind is None:
        raise RefusedError(profile.reasons.get(node.op_type, "it has no 8-bit kernel"))
    match kind:
        case Kind.CONV:
            unit = _conv(node)
        case Kind.LINEAR:
            unit = _gemm(node) if node.op_type == "Gemm" else _matmul(node)
        case Kind.MOVE:
            unit = _follower(node, kind, node.inputs[:1])
        case Kind.RESIDUAL:
            unit = _residual(node, profile)
        case _:
            unit = _follower(node, kind, node.inputs)
    if kind.has_weight or (kind is Kind.BINARY and node.op_type == "Add"):
        unit = _with_activation(unit, node, profile)
    if node.op_type == "Sigmoid":
        unit = replace(unit, low=0.0, high=1.0)
    return replace(unit, float_output=kind in profile.float_outputs)


def _base(node: ir.Node, kind: Kind, inputs: tuple[str, ...]) -> Unit:
    result = str(node.outputs[0].name)
    return Unit(kind, name_of(node), node.op_type, inputs, result, result)


def _activation_name(value: ir.Value | None) -> str:
    if value is None or constant_of(value) is not None:
        raise RefusedError("one of its inputs is a constant; all must be computed")
    return str(value.name)


def _follower(node: ir.Node, kind: Kind, inputs: Sequence[ir.Value | None]) -> Unit:
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        raise RefusedError("its second output is used")
    if kind is Kind.UNARY and "dilations" in node.attributes:
        # The runtime copies the attribute to its 8-bit kernel, then refuses the whole model for it.
        raise RefusedError("it has dilations, which no 8-bit pooling takes")
    return _base(node, kind, tuple(_activation_name(value) for value in inputs))


def _residual(node: ir.Node, profile: Profile) -> Unit:
    """A sum into whose first or second operand a convolution runs alone; the other is the branch."""
    for index, value in enumerate(node.inputs):
        producer = value.producer() if value is not None else None
        if value is None or producer is None or _only_reader(value) is not node:
            continue
        if profile.kinds.get(producer.op_type) is Kind.CONV:
            return _follower(node, Kind.RESIDUAL, [node.inputs[1 - index]])
    raise RefusedError("no convolution ends in it")


def _weighted(node: ir.Node, kind: Kind, axis: int, ranks: range) -> Unit:
    weight, data = node.inputs[1], node.inputs[0]
    array = constant_of(weight)
    if array is None or weight is None or data is None:
        raise RefusedError("its weight is not constant")
    if array.dtype != "float32" or array.ndim not in ranks or not array.size:
        raise RefusedError(f"its weight is {array.dtype} of rank {array.ndim}")
    if constant_of(data) is not None:
        raise RefusedError("its input is constant")
    return replace(_base(node, kind, (str(data.name),)), weight=str(weight.name), axis=axis)


def _with_bias(unit: Unit, node: ir.Node, channels: int | None) -> Unit:
    bias = input_of(node, 2)
    if bias is None:
        return unit
    array = constant_of(bias)
    if array is None:
        raise RefusedError("its bias is not constant")
    if channels is not None and array.size != channels:
        raise RefusedError(f"its bias has {array.size} values for {channels} channels")
    if array.ndim > 1 and array.shape[-1] != array.size:  # numpy would take a column for a row
        raise RefusedError(f"its bias of {list(array.shape)} differs between rows")
    return replace(unit, bias=str(bias.name))


def _conv(node: ir.Node) -> Unit:
    return _with_bias(_weighted(node, Kind.CONV, 0, range(3, 6)), node, None)


def _gemm(node: ir.Node) -> Unit:
    attributes = node.attributes
    if attributes.get_int("transA", 0) or any(
        attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta")
    ):
        raise RefusedError("it has transA, alpha or beta, which no 8-bit Gemm takes")
    axis = 0 if attributes.get_int("transB", 0) else 1
    unit = _weighted(node, Kind.LINEAR, axis, range(2, 3))
    array = constant_of(node.inputs[1])
    return _with_bias(unit, node, None if array is None else array.shape[axis])


def _matmul(node: ir.Node) -> Unit:
    if constant_of(node.inputs[1]) is None and constant_of(node.inputs[0]) is None:
        raise RefusedError(
            "both operands are computed; the 8-bit kernel for that is slow on this target"
        )
    unit = _weighted(node, Kind.LINEAR, 1, range(2, 3))
    return _with_added_bias(unit, node)


def _with_added_bias(unit: Unit, node: ir.Node) -> Unit:
    """MatMul -> Add(constant vector): the vector is the bias."""
    weight = constant_of(node.inputs[1])
    add = _only_reader(node.outputs[0])
    if add is None or add.op_type != "Add" or weight is None:
        return unit
    bias = next((v for v in add.inputs if v is not node.outputs[0]), None)
    array = constant_of(bias)
    if bias is None or array is None or array.shape != (weight.shape[1],):
        return unit
    return replace(unit, bias=str(bias.name), output=str(add.outputs[0].name))


def _with_activation(unit: Unit, node: ir.Node, profile: Profile) -> Unit:
    """Take in a Relu, or a Clip from zero, that alone reads the unit's output."""
    reader = _only_reader(_chain(unit, node)[-1])
    if reader is None or reader.op_type not in profile.folds:
        return unit
    output = str(reader.outputs[0].name)
    if reader.op_type == "Relu":
        return replace(unit, output=output, low=0.0)
    low, high = (constant_of(input_of(reader, i)) for i in (1, 2))
    if low is None or high is None or float(low) != 0 or float(high) <= 0:
        return unit
    return replace(unit, output=output, low=0.0, high=float(high))


def _only_reader(value: ir.Value) -> ir.Node | None:
    """The node that alone uses the value, in the graph that makes it."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    producer, reader = value.producer(), uses[0].node
    return reader if producer is not None and reader.graph is producer.graph else None


def _chain(unit: Unit, node: ir.Node) -> list[ir.Value]:
    """Outputs of the nodes of a unit, from the node's own to the unit's."""
    values = [node.outputs[0]]
    while values[-1].name != unit.output:
        (use,) = values[-1].uses()
        values.append(use.node.outputs[0])
    return values
