"""Narrow, high-resolution stages are computed at half the resolution with four times the channels.

    Conv 3x3 on [N, C, H, W]      becomes      Conv 3x3 on [N, 4C, H/2, W/2]

Pixel (2i+a, 2j+b) of channel c is channel (2a+b)*C + c at (i, j).  A tap that reaches du rows away
from a row of parity a lands on parity (a+du) mod 2 of the block floor((a+du)/2) away, so the
weights are spread over a dense kernel whose other entries are zero: the same sums with zeros added.
The convolution that enters the region makes the packed form by itself (kernel k+1, stride 2), the
one that leaves it with stride 2 reads it (stride 1), so no node is spent on packing.

Why: int8 and blocked fp32 kernels compute 16 output channels at a time.  A stage that pruning left
with 4 or 8 channels wastes most of that, and pays for every pixel.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from deploypipe.graph import GraphPass, Outcome
from deploypipe.graph.channels.cells import axis_size, rank
from deploypipe.graph.channels.rule import integer, ints
from deploypipe.graph.constants import add_initializer, constant_of, input_of
from deploypipe.graph.shapes import infer_shapes

_POINTWISE = frozenset(
    {"Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Gelu"}
    | {"Identity"}
)
_OFFSETS = tuple(itertools.product((0, 1), repeat=2))


@dataclass(frozen=True)
class SpaceToDepth(GraphPass):
    """Pack regions of at most ``max_channels`` channels and at least ``min_size`` pixels a side."""

    max_channels: int = 8
    min_size: int = 32

    def __post_init__(self) -> None:
        if self.max_channels < 1 or self.min_size < 1:
            raise ValueError("max_channels and min_size must be at least 1")

    def call(self, model: ir.Model) -> Outcome:
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        infer_shapes(model)
        packed = self._region(model.graph)
        changes = []
        for node in list(model.graph):
            if node.op_type == "Conv" and _touches(node, packed):
                _pack_conv(model.graph, node, packed)
                changes.append(f"'{node.name}' works on 2x2 blocks: {_sizes(node)}")
        if not changes:
            return Outcome(model, False)
        for value in packed:
            value.shape = None
        infer_shapes(model)
        return Outcome(model, True, changes)

    def _region(self, graph: ir.Graph) -> set[ir.Value]:
        """Greatest set of tensors whose makers and readers can all work on packed tensors."""
        packed = {v for node in graph for v in node.outputs if self._fits(v)}
        packed -= set(graph.outputs)
        while True:
            wrong = {value for value in packed if not _can(value, packed)}
            if not wrong:
                return packed
            packed -= wrong

    def _fits(self, value: ir.Value) -> bool:
        if rank(value) != 4:
            return False
        channels, height, width = (axis_size(value, axis) for axis in (1, 2, 3))
        if channels is None or height is None or width is None:
            return False
        even = height % 2 == width % 2 == 0 and min(height, width) >= self.min_size
        return even and channels <= self.max_channels


def _can(value: ir.Value, packed: set[ir.Value]) -> bool:
    maker = value.producer()
    if maker is None or not _makes(maker, packed):
        return False
    uses = value.uses()
    here = all(use.node.graph is maker.graph for use in uses)
    return bool(uses) and here and all(_reads(use.node, packed) for use in uses)


def _makes(node: ir.Node, packed: set[ir.Value]) -> bool:
    if node.op_type == "Conv":
        return _stride(node) == 1
    return _pointwise(node) and all(value in packed for value in node.inputs if _computed(value))


def _reads(node: ir.Node, packed: set[ir.Value]) -> bool:
    if node.op_type == "Conv":
        # A stride of 2 leaves the region; a stride of 1 must stay inside.
        return _stride(node) == 2 or (_stride(node) == 1 and node.outputs[0] in packed)
    return _pointwise(node) and node.outputs[0] in packed


def _pointwise(node: ir.Node) -> bool:
    if node.op_type == "Add":
        channels = {axis_size(v, 1) for v in (*node.inputs, *node.outputs) if v is not None}
        return len(channels) == 1 and all(_computed(value) for value in node.inputs)
    return node.op_type in _POINTWISE


def _computed(value: ir.Value | None) -> bool:
    return value is not None and constant_of(value) is None


def _stride(node: ir.Node) -> int | None:
    """1 or 2 for a plain convolution padded by half its odd kernel; None for any other."""
    weights = constant_of(node.inputs[1])
    if weights is None or weights.ndim != 4 or integer(node, "group", 1) != 1:
        return None
    if _computed(input_of(node, 2)):
        return None
    kernel = weights.shape[2:]
    auto = node.attributes.get_string("auto_pad", "NOTSET")
    same = ints(node, "pads", [0] * 4) == [kernel[0] // 2, kernel[1] // 2] * 2
    odd = kernel[0] % 2 == kernel[1] % 2 == 1
    strides = ints(node, "strides", [1, 1])
    plain = ints(node, "dilations", [1, 1]) == [1, 1] and auto == "NOTSET"
    if not (same and odd and plain and strides[0] == strides[1] and strides[0] in (1, 2)):
        return None
    return strides[0]


def _touches(node: ir.Node, packed: set[ir.Value]) -> bool:
    return node.inputs[0] in packed or node.outputs[0] in packed


def _pack_conv(graph: ir.Graph, node: ir.Node, packed: set[ir.Value]) -> None:
    """Give the convolution its packed weights, bias, pads and stride."""
    weights = constant_of(node.inputs[1])
    assert weights is not None
    reads, makes = node.inputs[0] in packed, node.outputs[0] in packed
    plan = [_axis_plan(size, reads, makes) for size in weights.shape[2:]]
    spread = _spread(weights, plan, reads, makes)
    _set_input(graph, node, 1, spread)
    bias = constant_of(input_of(node, 2))
    if bias is not None and makes:
        _set_input(graph, node, 2, np.tile(bias, 4))
    stride = 1 if reads else 2
    low, high = zip(*(axis.pads for axis in plan), strict=True)
    node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", list(spread.shape[2:]))
    node.attributes["pads"] = ir.AttrInt64s("pads", [*low, *high])
    node.attributes["strides"] = ir.AttrInt64s("strides", [stride, stride])


@dataclass(frozen=True)
class _AxisPlan:
    """``place[parity of the output, tap]`` = (parity of the input, tap of the packed kernel)."""

    kernel: int
    pads: tuple[int, int]
    place: dict[tuple[int, int], tuple[int, int]]


def _axis_plan(kernel: int, reads: bool, makes: bool) -> _AxisPlan:
    half = kernel // 2
    parities = (0, 1) if makes else (0,)
    if not reads:  # enters the region: kernel + 1 taps at stride 2
        place = {(a, u): (0, u + a) for a in parities for u in range(kernel)}
        return _AxisPlan(kernel + 1, (half, half), place)
    far = {(a, u): a + u - half for a in parities for u in range(kernel)}
    first = min(reach // 2 for reach in far.values())
    last = max(reach // 2 for reach in far.values())
    place = {key: (reach % 2, reach // 2 - first) for key, reach in far.items()}
    return _AxisPlan(last - first + 1, (-first, last), place)


def _spread(weights: np.ndarray, plan: list[_AxisPlan], reads: bool, makes: bool) -> np.ndarray:
    """Weights [O, C, k, k] on the packed channels: [4O or O, 4C or C, k', k']."""
    outputs, channels, height, width = weights.shape
    shape = (outputs * (4 if makes else 1), channels * (4 if reads else 1))
    spread = np.zeros((*shape, plan[0].kernel, plan[1].kernel), weights.dtype)
    offsets = _OFFSETS if makes else _OFFSETS[:1]
    for (a, b), u, v in itertools.product(offsets, range(height), range(width)):
        (from_a, row), (from_b, column) = plan[0].place[a, u], plan[1].place[b, v]
        out, into = (2 * a + b) * outputs, (2 * from_a + from_b) * channels
        spread[out : out + outputs, into : into + channels, row, column] = weights[:, :, u, v]
    return spread


def _set_input(graph: ir.Graph, node: ir.Node, place: int, array: np.ndarray) -> None:
    old = node.inputs[place]
    assert old is not None
    node.replace_input_with(place, add_initializer(graph, f"{old.name}.packed", array))
    if not old.uses() and not old.is_graph_output():
        graph.initializers.pop(str(old.name), None)


def _sizes(node: ir.Node) -> str:
    weights = constant_of(node.inputs[1])
    return "" if weights is None else f"weights {list(weights.shape)}"
