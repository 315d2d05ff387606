"""A strided slice with zero channels around it is a 1x1 convolution.

    x -> Slice(::2, ::2) -> Pad(channels) -> y     becomes     x -> Conv(1x1, stride 2, P) -> y

P[o, i] is 1 where channel i lands at place o, else 0: the parameter-free shortcut of He et al. 2015
(option A).  Runtimes have a fast (and an int8) kernel for the convolution and none for the pair;
the sums add exact zeros, so finite numbers pass unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from deploypipe.graph import GraphPass, Outcome
from deploypipe.graph.channels.cells import axis_size, rank
from deploypipe.graph.constants import add_initializer, constant_of, input_of

_FAR = 2**31 - 1


@dataclass(frozen=True)
class SlicePadToConv(GraphPass):
    """Turn the subsampling shortcut into a 1x1 convolution with a stride."""

    def call(self, model: ir.Model) -> Outcome:
        changes, refusals = [], []
        for pad in [node for node in model.graph if node.op_type == "Pad" and node.domain == ""]:
            found = _shortcut(pad)
            if isinstance(found, str):
                refusals.append(f"Pad '{pad.name}' stays: {found}")
            elif found is not None:
                _replace(model.graph, pad, found)
                what = f"a 1x1 convolution with stride {found.steps}"
                changes.append(f"shortcut '{pad.name}' is {what}")
        return Outcome(model, bool(changes), changes, refusals)


@dataclass(frozen=True)
class _Shortcut:
    source: ir.Value
    slices: tuple[ir.Node, ...]
    steps: tuple[int, int]
    before: int
    after: int


def _shortcut(pad: ir.Node) -> _Shortcut | str | None:
    """The pattern above ``pad``; a reason where it nearly fits; None where it does not."""
    value = pad.inputs[0]
    steps, slices = {2: 1, 3: 1}, []
    while value is not None and (node := value.producer()) is not None and node.op_type == "Slice":
        step = _strides(node)
        if step is None or len(value.uses()) > 1 or value.is_graph_output():
            break
        steps = {axis: steps[axis] * step.get(axis, 1) for axis in steps}
        slices.append(node)
        value = node.inputs[0]
    if not slices or value is None:
        return None
    if rank(value) != 4 or axis_size(value, 1) is None or value.dtype is None:
        return "its channels or rank are not known"
    if value.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        return f"it moves {value.dtype.name.lower()}, for which runtimes have no convolution"
    ends = _channel_pads(pad)
    if ends is None:
        return "it pads more than channels, or not with constant zeros"
    return _Shortcut(value, tuple(slices), (steps[2], steps[3]), *ends)


def _strides(node: ir.Node) -> dict[int, int] | None:
    """Axis -> step of a Slice that takes every step-th row or column from the first on."""
    arrays = [constant_of(value) for value in node.inputs[1:]]
    if len(arrays) != 4 or any(array is None for array in arrays):
        return None
    found = {}
    for start, end, place, step in zip(*(a.tolist() for a in arrays if a is not None), strict=True):
        axis = int(place) % 4  # any other rank is refused later
        size = axis_size(node.inputs[0], axis) if node.inputs[0] is not None else None
        whole = end >= _FAR or (size is not None and end >= size)
        if start != 0 or step < 1 or axis not in (2, 3) or not whole:
            return None
        found[axis] = int(step)
    return found


def _channel_pads(pad: ir.Node) -> tuple[int, int] | None:
    pads = constant_of(input_of(pad, 1))
    fill = np.zeros(1) if input_of(pad, 2) is None else constant_of(pad.inputs[2])
    mode = pad.attributes.get_string("mode", "constant")
    simple = pads is not None and len(pads) == 8 and mode == "constant" and len(pad.inputs) < 4
    if not simple or fill is None or fill.any() or pads is None:
        return None
    others = [int(p) for i, p in enumerate(pads) if i % 4 != 1]
    return None if any(others) or (pads < 0).any() else (int(pads[1]), int(pads[5]))


def _replace(graph: ir.Graph, pad: ir.Node, found: _Shortcut) -> None:
    channels = axis_size(found.source, 1) or 0
    dtype = found.source.dtype
    assert dtype is not None
    weights = np.zeros((found.before + channels + found.after, channels, 1, 1), dtype.numpy())
    weights[found.before + np.arange(channels), np.arange(channels)] = 1
    y = pad.outputs[0]
    value = add_initializer(graph, f"{y.name}.place", weights)
    attributes = {"kernel_shape": [1, 1], "strides": list(found.steps)}
    conv = ir.node("Conv", [found.source, value], attributes, name=f"{pad.name}_conv")
    conv.outputs[0].shape, conv.outputs[0].type = y.shape, y.type
    graph.insert_after(pad, conv)
    ir.convenience.replace_all_uses_with(y, conv.outputs[0], replace_graph_outputs=True)
    conv.outputs[0].name, y.name = y.name, f"{y.name}.old"
    for node in (pad, *found.slices):
        graph.remove(node, safe=True)
