"""Pooling, resizing, reductions and softmax."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from channel_fuzz.maker import Attributes, Maker, Tensor
from channel_fuzz.pieces_linear import in_front, window, with_space
from channel_fuzz.registry import piece
from channel_fuzz.scale import Scale


@piece(weight=5)
def pool(g: Maker) -> None:
    x = g.pick(lambda t: with_space(t) and prod(t.shape[2:]) > 1, in_front)
    if x is None:
        return
    op = g.choice(["MaxPool", "MaxPool", "AveragePool", "AveragePool", "LpPool"])
    dilate = op == "MaxPool" or (op == "AveragePool" and g.opset >= 19)
    w = window(g, x.shape[2:], dilate=dilate)
    attributes, space = w.attributes, list(w.space)
    if op == "AveragePool" and g.chance(0.7):
        attributes["count_include_pad"] = 1
    scale = {"MaxPool": x.scale, "AveragePool": x.scale.rough()}.get(
        op, x.scale.rough(9 * x.scale.bound)
    )
    if op != "LpPool" and "auto_pad" not in attributes and g.chance(0.2):
        attributes["ceil_mode"] = 1
        space = ceiled(x.shape[2:], attributes)
        if 0 in space:  # a last window in the padding alone, which onnx counts and others do not
            return
    shape = (*x.shape[:2], *space)
    if op == "MaxPool" and g.chance(0.1):
        names = g.node(op, [x.name], 2, **attributes)
        g.opened(replace(x, name=names[0]), shape)
        places = g.node("Cast", [names[1]], to=1)[0]
        g.opened(replace(x, name=places), shape, scale=Scale(4096.0, 1.0))
        return
    g.add(op, [x], shape, scale=scale, **attributes)


def ceiled(space: tuple[int, ...], attributes: dict[str, Any]) -> list[int]:
    """Sizes where the last window may reach over the border; 0 where it would start beyond it."""
    count = len(space)
    strides = attributes.get("strides", [1] * count)
    dilations = attributes.get("dilations", [1] * count)
    pads = attributes.get("pads", [0] * 2 * count)
    out = []
    for axis, size in enumerate(space):
        reach = (attributes["kernel_shape"][axis] - 1) * dilations[axis] + 1
        low, step = pads[axis], strides[axis]
        number = -(-(size + low + pads[axis + count] - reach) // step) + 1
        out.append(0 if (number - 1) * step >= size + low else number)
    return out


@piece(weight=2)
def global_pool(g: Maker) -> None:
    """Now and then with the rest of a squeeze-and-excitation block."""
    x = g.pick(with_space, in_front)
    if x is None:
        return
    ops = ["GlobalAveragePool", "GlobalAveragePool", "GlobalMaxPool"]
    op = g.choice([*ops, "GlobalLpPool"] if g.opset < 22 else ops)  # no kernel since
    shape = (*x.shape[:2], *[1] * (x.rank - 2))
    moving = (*x.moving[:2], *[False] * (x.rank - 2))
    area = float(prod(x.shape[2:]))
    scale = x.scale if op == "GlobalMaxPool" else x.scale.rough(x.scale.bound * area)
    y = g.add(op, [x], shape, moving, scale)
    if g.chance(0.4):
        gate(g, x, y)


def gate(g: Maker, x: Tensor, y: Tensor) -> None:
    """x * Sigmoid(Conv(Relu(Conv(y))))."""
    channels, inner = x.shape[1], g.integer(1, 4)
    ones = [1] * (x.rank - 2)
    first, a = g.weight((inner, channels, *ones), x.dtype, made=0, read=1)
    second, b = g.weight((channels, inner, *ones), x.dtype, made=0, read=1)
    more = [g.constant(g.bias(b, x.dtype))] if g.chance(0.5) else []
    rough = Scale(4096.0)
    inputs: list[Tensor | str] = [
        y,
        first,
        *([g.constant(g.bias(a, x.dtype))] if g.chance(0.5) else []),
    ]
    y = g.add("Conv", inputs, (x.shape[0], inner, *ones), scale=rough)
    y = g.add("Relu", [y])
    y = g.add("Conv", [y, second, *more], (x.shape[0], channels, *ones))
    y = g.add(g.choice(["Sigmoid", "HardSigmoid", "Relu"]), [y])
    g.add("Mul", [x, y] if g.chance(0.5) else [y, x], x.shape, x.moving, scale=x.scale * rough)


@piece(weight=2)
def resize(g: Maker) -> None:
    """Twice or half the pixels, or to sizes."""
    x = g.pick(lambda t: t.rank in (3, 4) and not t.moving[1] and prod(t.shape) <= 800, in_front)
    if x is None:
        return
    mode = g.choice(["nearest", "nearest", "linear", "cubic"] if x.rank == 4 else ["nearest"])
    ways = ["asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"]
    way = g.choice([*ways, *["tf_crop_and_resize"] * 2])
    axes = list(range(2, x.rank)) if g.opset >= 18 and g.chance(0.3) else list(range(x.rank))
    factors = [g.choice([1.0, 2.0, 0.5]) if a >= 2 else 1.0 for a in axes]
    shape = list(x.shape)
    for a, factor in zip(axes, factors, strict=True):
        shape[a] = int(shape[a] * factor)
    if 0 in shape:
        return
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": way}
    if len(axes) < x.rank:
        attributes["axes"] = axes
    corners = "" if g.opset >= 13 else g.constant(np.zeros(0, np.float32))
    if way == "tf_crop_and_resize":
        low, high = [0.0] * len(axes), [1.0] * len(axes)
        high[-1] = g.choice([1.0, 1.5, 1.5])
        corners = g.constant(np.array(low + high, np.float32))
        attributes["extrapolation_value"] = g.choice([0.0, 2.0])
    if x.fixed and g.chance(0.5):
        empty = "" if g.opset >= 13 else g.constant(np.zeros(0, np.float32))
        inputs = [x.name, corners, empty, g.ints(shape[a] for a in axes)]
    else:
        inputs = [x.name, corners, g.constant(np.array(factors, np.float32))]
    bound = max(2.0, x.scale.bound * (2 if mode == "cubic" else 1))
    scale = Scale(bound, min(x.scale.grain, 1.0)) if mode == "nearest" else x.scale.rough(bound)
    name = g.node("Resize", inputs, **attributes)[0]
    g.opened(replace(x, name=name), shape, scale=scale)


@piece(weight=2)
def reduce(g: Maker) -> None:
    x = g.pick(lambda t: t.rank >= 2)
    if x is None:
        return
    ops = ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2"]
    op = g.choice([*ops, "ReduceSumSquare", "ReduceLogSumExp"])
    axes = g.choice([[1], [x.rank - 1], list(range(2, x.rank)), list(range(1, x.rank))])
    keep = g.chance(0.6)
    if not axes or (not keep and x.rank - len(axes) < 2):
        return
    area = float(prod(x.shape[a] for a in axes))
    scale = x.scale.rough(area * max(x.scale.bound, 1.0))
    if op in ("ReduceMax", "ReduceMin"):
        scale = x.scale
    elif op in ("ReduceSum", "ReduceL1"):
        scale = replace(x.scale, bound=x.scale.bound * area)
    elif op == "ReduceSumSquare":
        scale = x.scale * replace(x.scale, bound=x.scale.bound * area)
    shape = [1 if a in axes else size for a, size in enumerate(x.shape) if keep or a not in axes]
    moving = [moves and a not in axes for a, moves in enumerate(x.moving) if keep or a not in axes]
    given = [a - x.rank if g.chance(0.3) else a for a in axes]
    attributes: dict[str, Any] = {} if keep and g.chance(0.5) else {"keepdims": int(keep)}
    if g.opset >= 18 or (op == "ReduceSum" and g.opset >= 13):
        g.add(op, [x, g.ints(given)], shape, moving, scale, **attributes)
    else:
        g.add(op, [x], shape, moving, scale, axes=given, **attributes)


@piece(weight=0.7)
def softmax(g: Maker) -> None:
    x = g.pick()
    if x is None:
        return
    op = g.choice(["Softmax", "Softmax", "LogSoftmax"])
    axis: Attributes = {} if g.chance(0.3) else {"axis": g.choice([-1, 1, x.rank - 1])}
    bound = 1.0 if op == "Softmax" else 2 * x.scale.bound + 10
    g.add(op, [x], scale=x.scale.rough(bound), **axis)


@piece(weight=0.3)
def strange(g: Maker) -> None:
    """Ops that the engine has no rule for."""
    x = g.pick(lambda t: t.rank >= 3 and not t.moving[1])
    if x is None:
        return
    op = g.choice(["CumSum", "LRN", "LpNormalization"] if x.rank == 4 else ["CumSum"])
    if op == "CumSum":
        axis = g.constant(np.array(g.choice([1, x.rank - 1]), np.int64))
        scale = replace(x.scale, bound=x.scale.bound * max(x.shape))
        g.add(op, [x, axis], scale=scale)
    elif op == "LRN":
        g.add(op, [x], scale=x.scale.rough(), size=3)
    else:
        shifted = g.add("Exp", [g.add("Tanh", [x], scale=x.scale.rough(1.0))])
        g.add(op, [shifted], axis=g.choice([1, -1]))
