"""The audit for models that somebody else quantized: what stays float, and why; see also `mend`.

The causes are ONNX Runtime's fusion rules on x86-64 as measured with version 1.31.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.core.files import Json
from deploypipe.graph.constants import constant_of, input_of
from deploypipe.quantize.audit import fused, label, labelled, optimized_graph
from deploypipe.quantize.units import name_of
from deploypipe.runtime import Target

_WEIGHTED = ("Conv", "Gemm", "MatMul")
QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


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
    nodes = [node for node in model.graph if has_8_bit_weight(node)]
    names = {str(node.outputs[0].name): number for number, node in enumerate(nodes)}
    graph = optimized_graph(labelled(model, names), target)
    found = [
        Finding(name_of(node), node.op_type, _cause(node))
        for number, node in enumerate(nodes)
        if not fused(label(number), graph)
    ]
    return len(nodes), found


def has_8_bit_weight(node: ir.Node) -> bool:
    return node.op_type in _WEIGHTED and codes_of(input_of(node, 1)) is not None


def codes_of(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The 8-bit constant behind a DequantizeLinear."""
    producer = value.producer() if value is not None else None
    if producer is None or producer.op_type != DEQUANTIZE:
        return None
    array = constant_of(producer.inputs[0])
    return array if array is not None and array.dtype in (np.int8, np.uint8) else None


def _cause(node: ir.Node) -> Cause:
    source = node.inputs[0].producer() if node.inputs[0] is not None else None
    if source is None or source.op_type != DEQUANTIZE:
        return Cause.FLOAT_INPUT
    if is_signed(source) and _readers_of_codes(source) > 1:
        return Cause.SIGNED_FAN_OUT
    if node.op_type == "Conv":
        return _cause_behind(node)
    if float_bias(node) is not None:
        return Cause.FLOAT_BIAS
    return Cause.UNKNOWN


def _cause_behind(node: ir.Node) -> Cause:
    readers = [use.node for use in node.outputs[0].uses()]
    folded = len(readers) == 1 and readers[0].op_type in ("Relu", "Clip")
    behind = [use.node for use in readers[0].outputs[0].uses()] if folded else readers
    if not behind or any(reader.op_type != QUANTIZE for reader in behind):
        return Cause.NO_OUTPUT
    zero = constant_of(input_of(behind[0], 2))
    if folded and zero is not None and (zero != np.iinfo(zero.dtype).min).any():
        return Cause.ZERO_POINT
    signed = any(is_signed(reader) for reader in behind)
    return Cause.SIGNED_FAN_OUT if signed else Cause.UNKNOWN


def is_signed(node: ir.Node) -> bool:
    """Whether it rounds to, or widens, int8."""
    zero = input_of(node, 2)
    if zero is not None:
        array = constant_of(zero)
        return array is not None and array.dtype == np.int8
    if node.op_type == QUANTIZE:
        return node.attributes.get_int("output_dtype", 0) == ir.DataType.INT8
    codes = node.inputs[0]
    source = codes.producer() if codes is not None else None
    if source is not None and source.op_type == QUANTIZE:
        return is_signed(source)
    return codes is not None and codes.dtype == ir.DataType.INT8


def _readers_of_codes(dequantize: ir.Node) -> int:
    codes = dequantize.inputs[0]
    several = len(codes.uses()) if codes is not None else 0
    return max(several, len(dequantize.outputs[0].uses()))


def float_bias(node: ir.Node) -> tuple[ir.Node, int] | None:
    """The node and the place of the float constant that is added to a Gemm or MatMul."""
    if node.op_type == "Gemm":
        return (node, 2) if constant_of(input_of(node, 2)) is not None else None
    uses = list(node.outputs[0].uses())
    if node.op_type == "MatMul" and len(uses) == 1 and uses[0].node.op_type == "Add":
        place = 1 - uses[0].idx
        if constant_of(uses[0].node.inputs[place]) is not None:
            return uses[0].node, place
    return None


def summary(count: int, findings: Sequence[Finding]) -> str:
    """One sentence."""
    if not count:
        return "no Conv, Gemm or MatMul has 8-bit weights"
    if not findings:
        return f"all {count} nodes with 8-bit weights run in 8 bits"
    return f"{len(findings)} of {count} nodes with 8-bit weights run in float"
