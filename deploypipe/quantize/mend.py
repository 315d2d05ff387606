"""Mend a model that somebody else quantized, so that more of it runs in 8 bits.

No number that the model stands for changes: an int8 activation becomes the uint8 that is 128 larger,
and a float bias the int32 that the kernel would have made of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph import Outcome
from deploypipe.graph.constants import constant_of, input_of
from deploypipe.quantize.examine import (
    DEQUANTIZE,
    QUANTIZE,
    codes_of,
    float_bias,
    has_8_bit_weight,
    is_signed,
)
from deploypipe.quantize.lookout import Arrays
from deploypipe.quantize.naming import Names
from deploypipe.quantize.params import quantized_bias
from deploypipe.quantize.signal import outputs_of, sqnr_db
from deploypipe.quantize.units import name_of
from deploypipe.runtime import Target

ALIKE_DB = 30.0
"""Integer kernels may round a sum to the neighbouring step; another number is far below that."""

_MOVES = frozenset(
    {
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "MaxPool",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators that hand codes on as they are: they neither count with them nor add any of their own."""


def mend(model: ir.Model) -> Outcome:
    """A copy with uint8 activations and int32 biases; no number that it stands for changes."""
    copy = model.clone()
    refusals: list[str] = []
    signed = _unsign(copy, refusals)
    biases = sum(_store_bias(copy, node) for node in list(copy.graph) if has_8_bit_weight(node))
    changes = []
    if signed:
        changes.append(f"{signed} activations are uint8 instead of int8, 128 larger")
    if biases:
        changes.append(f"{biases} biases are int32 instead of float")
    return Outcome(copy, bool(changes), changes, refusals)


def agreement(
    model: ir.Model, mended: ir.Model, samples: Sequence[Arrays], target: Target
) -> float:
    """dB of the model's float outputs that the mended one keeps, computed on ``target``."""
    expected, given = outputs_of([model, mended], samples, target)
    return sqnr_db(expected, given)


class _KeptError(Exception):
    """An activation must stay int8; the message is the reason."""


def _unsign(model: ir.Model, refusals: list[str]) -> int:
    """Turn int8 activations into uint8 where nothing but a DequantizeLinear tells the difference.

    How many there were; ``refusals`` gets a sentence for each of the others.
    """
    zeros, done = _Zeros(model), 0
    roots = [node for node in model.graph if node.op_type == QUANTIZE and is_signed(node)]
    for root in [root for root in roots if constant_of(root.inputs[0]) is None]:
        try:
            held, ends = _reached(root.outputs[0])
            shifted = [zeros.of(node) for node in (root, *ends)]
        except _KeptError as reason:
            refusals.append(f"'{root.outputs[0].name}' stays int8: {reason}")
            continue
        for node, array in zip((root, *ends), shifted, strict=True):
            node.resize_inputs(3)
            node.replace_input_with(2, zeros.value(array))
        root.attributes.pop("output_dtype", None)  # the zero point says it
        for value in held:
            value.type = None
        done += 1
    return done


def _reached(codes: ir.Value) -> tuple[list[ir.Value], list[ir.Node]]:
    """All tensors that hold the codes, and the nodes that make floats of them."""
    held, ends = [codes], list[ir.Node]()
    for value in held:  # which grows meanwhile
        if value.is_graph_output():
            raise _KeptError("its codes leave the graph")
        for node, index in value.uses():
            if node.op_type == DEQUANTIZE and index == 0:
                ends.append(node)
            elif node.op_type in _MOVES and not node.domain and index == 0:
                held += node.outputs if node.op_type == "Split" else node.outputs[:1]
            else:
                raise _KeptError(f"{node.op_type} '{name_of(node)}' reads its codes")
    return held, ends


class _Zeros:
    """Zero points 128 larger, each stored once."""

    def __init__(self, model: ir.Model) -> None:
        self._graph, self._names = model.graph, Names(model)
        self._made: dict[tuple[tuple[int, ...], bytes], ir.Value] = {}

    def of(self, node: ir.Node) -> npt.NDArray[np.uint8]:
        """What a node's int8 zero point becomes; one that it does not have is 0."""
        zero, scale = input_of(node, 2), constant_of(input_of(node, 1))
        array = constant_of(zero)
        if zero is None and scale is not None:
            array = np.zeros(scale.shape, np.int8)
        if array is None or array.dtype != np.int8:
            raise _KeptError(f"the zero point of {node.op_type} '{name_of(node)}' is computed")
        return np.asarray(array.astype(np.int16) + 128, np.uint8)

    def value(self, array: npt.NDArray[np.uint8]) -> ir.Value:
        """An initializer."""
        key = (array.shape, array.tobytes())
        if key not in self._made:
            value = ir.Value(name=self._names.new("z"), const_value=ir.tensor(array))
            self._graph.register_initializer(value)
            self._made[key] = value
        return self._made[key]


def _store_bias(model: ir.Model, node: ir.Node) -> bool:
    """Make a float bias int32 with the scale of the products, as the 8-bit kernel adds it."""
    found = float_bias(node)
    steps = _steps(node)
    if found is None or steps is None:
        return False
    bias = constant_of(found[0].inputs[found[1]])
    if bias is None or bias.ndim != 1 or bias.size not in (1, len(steps)):
        return False
    if np.abs(bias.astype(np.float64) / steps).max(initial=0) >= 2**31:
        return False  # it would not fit
    _show_zero_point(model, node)
    names, inputs = Names(model), list[ir.Value]()
    scales = steps if np.ptp(steps) else steps[0]
    for prefix, array in (("b", quantized_bias(bias, steps)), ("s", scales)):
        value = ir.Value(name=names.new(prefix), const_value=ir.tensor(np.asarray(array)))
        model.graph.register_initializer(value)
        inputs.append(value)
    axis = {"axis": 0} if scales.ndim else None
    back = ir.node(DEQUANTIZE, inputs, axis, outputs=[ir.Value(name=names.new("d"))])
    model.graph.insert_before(model.graph[0], back)
    found[0].replace_input_with(found[1], back.outputs[0])
    return True


def _steps(node: ir.Node) -> npt.NDArray[np.float32] | None:
    """float32 [channels]: the scale of a linear node's products; None if they have no such scale."""
    codes, data, weights = codes_of(node.inputs[1]), _widened(node, 0), _widened(node, 1)
    if data is None or weights is None or codes is None or codes.ndim < 2 or not codes.size:
        return None
    scale, scales = constant_of(input_of(data, 1)), constant_of(input_of(weights, 1))
    if scale is None or scales is None or scale.size != 1 or scales.ndim > 1:
        return None
    last, turned = codes.ndim - 1, node.attributes.get_int("transB", 0)
    axis = 0 if node.op_type == "Gemm" and turned else last
    if scales.size > 1 and weights.attributes.get_int("axis", 1) % codes.ndim != axis:
        return None  # along the inputs: every product has a scale of its own
    steps = np.asarray(scale, np.float32).reshape(-1) * np.asarray(scales, np.float32).reshape(-1)
    return np.ascontiguousarray(np.broadcast_to(steps, codes.shape[axis : axis + 1]))


def _widened(node: ir.Node, index: int) -> ir.Node | None:
    """The DequantizeLinear that makes a node's input, if one does."""
    value = node.inputs[index]
    producer = value.producer() if value is not None else None
    return producer if producer is not None and producer.op_type == DEQUANTIZE else None


def _show_zero_point(model: ir.Model, node: ir.Node) -> None:
    """Give the weight's DequantizeLinear a zero point: the rule for a Gemm wants to see it."""
    codes, weights = codes_of(node.inputs[1]), _widened(node, 1)
    assert codes is not None
    assert weights is not None
    scales = constant_of(weights.inputs[1])
    if input_of(weights, 2) is not None or scales is None:
        return
    zeros = ir.tensor(np.zeros(scales.shape, codes.dtype))
    zero = ir.Value(name=Names(model).new("z"), const_value=zeros)
    model.graph.register_initializer(zero)
    weights.resize_inputs(3)
    weights.replace_input_with(2, zero)
