"""The audit for models that somebody else quantized: what stays float, why, and what mends it.

The causes are ONNX Runtime's fusion rules on x86-64 as measured with version 1.31; the repairs change
no number: an int8 activation becomes the uint8 that is 128 larger, and a float bias the int32 that
the kernel would have made of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.core.files import Json
from deploypipe.graph import Outcome
from deploypipe.graph.constants import constant_of, input_of
from deploypipe.quantize.audit import fused, label, labelled, optimized_graph
from deploypipe.quantize.naming import Names
from deploypipe.quantize.params import quantized_bias
from deploypipe.quantize.units import name_of
from deploypipe.runtime import Target

_WEIGHTED = ("Conv", "Gemm", "MatMul")
_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


class Cause(StrEnum):
    """Why a node with 8-bit weights runs in float."""

    SIGNED_FAN_OUT = "signed activation with several readers"
    NO_OUTPUT = "its output is not rounded"
    ZERO_POINT = "the zero point of its output does not make the Relu redundant"
    FLOAT_BIAS = "its bias is float and its output is not rounded"
    FLOAT_INPUT = "its input is not rounded"
    UNKNOWN = "the runtime does not say why"


_ADVICE = {
    Cause.SIGNED_FAN_OUT: "store activations as uint8, which --repair does without changing a number",
    Cause.NO_OUTPUT: "round behind it, or leave it float: its weights are widened in every run",
    Cause.ZERO_POINT: "round asymmetrically, so that zero is the smallest 8-bit value",
    Cause.FLOAT_BIAS: "store the bias as int32, which --repair does",
    Cause.FLOAT_INPUT: "round its input, or keep its weights float",
    Cause.UNKNOWN: "quantize the float model again with deploypipe quantize",
}


@dataclass(frozen=True)
class Finding:
    """A node that was to run in 8 bits and does not."""

    node: str
    op: str
    cause: Cause

    def to_json(self) -> Json:
        """With what to do."""
        told = {"node": self.node, "op": self.op, "cause": self.cause.name}
        return {**told, "why": self.cause.value, "then": _ADVICE[self.cause]}


def examine_quantized(model: ir.Model, target: Target) -> tuple[int, list[Finding]]:
    """How many nodes have 8-bit weights, and which of them the runtime computes in float."""
    nodes = [node for node in model.graph if _has_8_bit_weight(node)]
    names = {str(node.outputs[0].name): number for number, node in enumerate(nodes)}
    graph = optimized_graph(labelled(model, names), target)
    found = [
        Finding(name_of(node), node.op_type, _cause(node))
        for number, node in enumerate(nodes)
        if not fused(label(number), graph)
    ]
    return len(nodes), found


def _has_8_bit_weight(node: ir.Node) -> bool:
    return node.op_type in _WEIGHTED and _codes(input_of(node, 1)) is not None


def _codes(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The 8-bit constant behind a DequantizeLinear."""
    producer = value.producer() if value is not None else None
    if producer is None or producer.op_type != _DEQUANTIZE:
        return None
    array = constant_of(producer.inputs[0])
    return array if array is not None and array.dtype in (np.int8, np.uint8) else None


def _cause(node: ir.Node) -> Cause:
    source = node.inputs[0].producer() if node.inputs[0] is not None else None
    if source is None or source.op_type != _DEQUANTIZE:
        return Cause.FLOAT_INPUT
    if _is_signed(source) and _readers_of_codes(source) > 1:
        return Cause.SIGNED_FAN_OUT
    if node.op_type == "Conv":
        return _cause_behind(node)
    if _float_bias(node) is not None:
        return Cause.FLOAT_BIAS
    return Cause.UNKNOWN


def _cause_behind(node: ir.Node) -> Cause:
    readers = [use.node for use in node.outputs[0].uses()]
    folded = len(readers) == 1 and readers[0].op_type in ("Relu", "Clip")
    behind = [use.node for use in readers[0].outputs[0].uses()] if folded else readers
    if not behind or any(reader.op_type != _QUANTIZE for reader in behind):
        return Cause.NO_OUTPUT
    zero = constant_of(input_of(behind[0], 2))
    if folded and zero is not None and int(zero) != np.iinfo(zero.dtype).min:
        return Cause.ZERO_POINT
    signed = any(_is_signed(reader) for reader in behind)
    return Cause.SIGNED_FAN_OUT if signed else Cause.UNKNOWN


def _is_signed(node: ir.Node) -> bool:
    """Whether it rounds to, or widens, int8."""
    zero = constant_of(input_of(node, 2))
    return zero is not None and zero.dtype == np.int8


def _readers_of_codes(dequantize: ir.Node) -> int:
    codes = dequantize.inputs[0]
    several = len(codes.uses()) if codes is not None else 0
    return max(several, len(dequantize.outputs[0].uses()))


def _float_bias(node: ir.Node) -> tuple[ir.Node, int] | None:
    """The node and the place of the float constant that is added to a Gemm or MatMul."""
    if node.op_type == "Gemm":
        return (node, 2) if constant_of(input_of(node, 2)) is not None else None
    uses = list(node.outputs[0].uses())
    if node.op_type == "MatMul" and len(uses) == 1 and uses[0].node.op_type == "Add":
        place = 1 - uses[0].idx
        if constant_of(uses[0].node.inputs[place]) is not None:
            return uses[0].node, place
    return None


def repair(model: ir.Model) -> Outcome:
    """A copy with uint8 activations and int32 biases; no number that it stands for changes."""
    copy = model.clone()
    signed = _unsign(copy)
    biases = sum(_store_bias(copy, node) for node in list(copy.graph) if _has_8_bit_weight(node))
    changes = []
    if signed:
        changes.append(f"{signed} activations are uint8 instead of int8, 128 larger")
    if biases:
        changes.append(f"{biases} biases are int32 instead of float")
    return Outcome(copy, bool(changes), changes)


def _unsign(model: ir.Model) -> int:
    """Turn every int8 activation into uint8; how many there were."""
    names, made = Names(model), dict[int, ir.Value]()
    roots = [node for node in model.graph if node.op_type == _QUANTIZE and _is_signed(node)]
    for root in [root for root in roots if constant_of(root.inputs[0]) is None]:
        for node in (root, *_behind(root.outputs[0])):
            zero = input_of(node, 2)
            array = constant_of(zero)
            if zero is None or array is None or array.dtype != np.int8:
                continue
            if id(zero) not in made:
                codes = ir.tensor((array.astype(np.int16) + 128).astype(np.uint8))
                value = ir.Value(name=names.new("z"), const_value=codes)
                model.graph.register_initializer(value)
                made[id(zero)] = value
            node.replace_input_with(2, made[id(zero)])
        root.outputs[0].type = None
    return len(roots)


def _behind(codes: ir.Value) -> Iterator[ir.Node]:
    """The DequantizeLinear nodes that the codes reach, through what only moves them."""
    for use in codes.uses():
        if use.node.op_type == _DEQUANTIZE:
            yield use.node
        else:
            for output in use.node.outputs:
                output.type = None
                yield from _behind(output)


def _store_bias(model: ir.Model, node: ir.Node) -> bool:
    """Make a float bias int32 with the scale of the products, as the 8-bit kernel adds it."""
    found = _float_bias(node)
    source, weight = node.inputs[0], node.inputs[1]
    data = source.producer() if source is not None else None
    weights = weight.producer() if weight is not None else None
    if found is None or data is None or weights is None or data.op_type != _DEQUANTIZE:
        return False
    scale, scales = constant_of(input_of(data, 1)), constant_of(input_of(weights, 1))
    bias = constant_of(found[0].inputs[found[1]])
    if scale is None or scales is None or bias is None or bias.ndim != 1:
        return False
    steps = (np.asarray(scale, np.float32) * np.asarray(scales, np.float32)).reshape(-1)
    if np.abs(bias.astype(np.float64) / steps).max(initial=0) >= 2**31:
        return False  # it would not fit
    steps = np.broadcast_to(steps, bias.shape) if steps.size != 1 else steps
    names, inputs = Names(model), list[ir.Value]()
    for prefix, array in (("b", quantized_bias(bias, steps)), ("s", np.squeeze(steps))):
        value = ir.Value(name=names.new(prefix), const_value=ir.tensor(np.ascontiguousarray(array)))
        model.graph.register_initializer(value)
        inputs.append(value)
    if input_of(weights, 2) is None:  # the rule for a Gemm wants to see it
        codes = _codes(weight)
        assert codes is not None
        zeros = ir.tensor(np.zeros(np.shape(scales), codes.dtype))
        zero = ir.Value(name=names.new("z"), const_value=zeros)
        model.graph.register_initializer(zero)
        weights.resize_inputs(3)
        weights.replace_input_with(2, zero)
    axis = {"axis": 0} if steps.size > 1 else None
    back = ir.node(_DEQUANTIZE, inputs, axis, outputs=[ir.Value(name=names.new("d"))])
    model.graph.insert_before(model.graph[0], back)
    found[0].replace_input_with(found[1], back.outputs[0])
    return True


def summary(count: int, findings: Sequence[Finding]) -> str:
    """One sentence."""
    if not count:
        return "no Conv, Gemm or MatMul has 8-bit weights"
    if not findings:
        return f"all {count} nodes with 8-bit weights run in 8 bits"
    return f"{len(findings)} of {count} nodes with 8-bit weights run in float"
