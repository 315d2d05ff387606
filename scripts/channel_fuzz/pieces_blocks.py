"""Pieces of several nodes: attention, branches, codes, casts, recurrent layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from channel_fuzz.maker import Attributes, Maker, Tensor
from channel_fuzz.pieces_layout import reordered, reshaped, sequence
from channel_fuzz.pieces_linear import in_front, window, with_space
from channel_fuzz.registry import piece
from channel_fuzz.scale import Array, Scale, scale_of, summed


@piece(weight=3)
def attention(g: Maker) -> None:
    """Heads of Softmax(q k') v, and a projection."""
    x = sequence(g)
    if x is None:
        return
    heads, each = g.integer(1, 3), g.integer(1, 3)
    q, k, v = (_heads(g, x, heads, each) for _ in range(3))
    turned = reordered(g, k, [0, 1, 3, 2])
    rough = x.scale.rough(1e4)
    scores = g.add("MatMul", [q, turned], (*q.shape[:3], q.shape[2]), scale=rough)
    scores = g.add("Mul", [scores, g.constant(np.array(each**-0.5 / 16, x.dtype))])
    axis: Attributes = {} if g.chance(0.3) else {"axis": g.choice([-1, -1, 3, 2, 1])}
    soft = g.add("Softmax", [scores], scale=rough.rough(1.0), **axis)
    mixed = g.add("MatMul", [soft, v], v.shape, v.moving, v.scale.rough(v.scale.bound * 16))
    back = reordered(g, mixed, [0, 2, 1, 3])
    joined = reshaped(g, back, [*back.shape[:2], heads * each], list(x.moving))
    name, array = g.weight((heads * each, x.shape[2]), x.dtype, made=1, read=0)
    g.add("MatMul", [joined, name], x.shape, scale=summed(joined.scale, array.T))


def _heads(g: Maker, x: Tensor, heads: int, each: int) -> Tensor:
    """[N, T, D] -> [N, heads, T, each], through a linear layer of its own."""
    name, array = g.weight((x.shape[2], heads * each), x.dtype, made=1, read=0)
    shape = (*x.shape[:2], heads * each)
    y = g.add("MatMul", [x, name], shape, scale=summed(x.scale, array.T))
    if g.chance(0.5):
        bias = g.bias(array.T, x.dtype)
        y = g.add("Add", [y, g.constant(bias)], scale=y.scale + scale_of(bias))
    y = reshaped(g, y, [*x.shape[:2], heads, each], [*x.moving, False])
    return reordered(g, y, [0, 2, 1, 3])


@piece(weight=0.5)
def branch(g: Maker) -> None:
    """An If whose bodies capture a tensor, or two."""
    x = g.pick(lambda t: t.dtype == np.float32)
    if x is None:
        return
    y = g.choice([t for t in g.open if t.like(x)] or [x])
    condition = g.constant(np.array(g.chance(0.5)))
    bodies = []
    for op, inputs in (("Add", [x.name, y.name]), ("Neg", [x.name])):
        out = g.name("inner")
        info = helper.make_tensor_value_info(out, TensorProto.FLOAT, None)
        bodies.append(helper.make_graph([helper.make_node(op, inputs, [out])], op, [], [info]))
    g.read.update({x.name, y.name})
    scale = x.scale + y.scale
    name = g.node("If", [condition], then_branch=bodies[0], else_branch=bodies[1])[0]
    g.opened(replace(x, name=name), scale=scale)


@piece(weight=1)
def cast(g: Maker) -> None:
    """To float16 for a while, back, or through whole numbers with some arithmetic."""
    x = g.pick(lambda t: t.scale.bound <= 1024)
    if x is None:
        return
    if x.dtype == np.float16:
        g.add("Cast", [x], dtype=np.float32, to=TensorProto.FLOAT)
    elif g.chance(0.4):
        g.add("Cast", [x], dtype=np.float16, to=TensorProto.FLOAT16)
    elif g.exact and x.scale.grain == 1:
        kind: Any = g.choice([np.int32, np.int64])
        code = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        name = g.node("Cast", [x.name], to=int(code))[0]
        other = g.constant(np.array(g.choice([0, 1, 3]), kind))
        scale = x.scale
        for op in g.rng.permutation(["Add", "Mul"])[: g.integer(0, 2)]:
            inputs = [name, other if g.chance(0.5) else name]
            name = g.node(str(op), inputs)[0]
            other_bound = Scale(max(3.0, scale.bound), 1.0)
            scale = scale + other_bound if op == "Add" else scale * other_bound
        back = g.node("Cast", [name], to=TensorProto.FLOAT)[0]
        g.opened(replace(x, name=back), scale=scale)


def fake_quantized(g: Maker, x: Tensor, axis: int | None = None) -> Tensor:
    """QuantizeLinear and DequantizeLinear with scales that are powers of two."""
    kind: Any = g.choice([np.int8, np.uint8])
    size = () if axis is None else (x.shape[axis],)
    steps = np.asarray(g.rng.choice([0.25, 0.5, 1.0], size), np.float32)
    zeros = g.rng.integers(0, 3, size).astype(kind)
    if kind == np.uint8 and axis is None:
        zeros = np.array(128, kind)
    attributes = {} if axis is None else {"axis": axis}
    inputs = [g.constant(steps), g.constant(zeros)]
    codes = g.node("QuantizeLinear", [x.name, *inputs], **attributes)[0]
    back = g.node("DequantizeLinear", [codes, *inputs], **attributes)[0]
    scale = Scale(min(x.scale.bound, 256.0) + 1, 0.25 if x.scale.grain else 0.0)
    return g.opened(replace(x, name=back), scale=scale)


@piece(weight=1.5)
def codes(g: Maker) -> None:
    """Activations to codes and back, where rounding can only go one way."""
    x = g.pick(lambda t: t.dtype == np.float32 and t.scale.grain > 0) if g.exact else None
    if x is None:
        return
    per_axis = g.opset >= 13 and x.rank >= 2 and not x.moving[1] and g.chance(0.3)
    fake_quantized(g, x, 1 if per_axis else None)


def weights_of_codes(g: Maker, shape: tuple[int, ...], made: int, read: int) -> tuple[str, Array]:
    """int8 weights behind a DequantizeLinear, with one scale or one for each output."""
    codes, array = g.weight(shape, np.int8, made=made, read=read)
    each = g.opset >= 13 and g.chance(0.6)
    steps = np.asarray(g.rng.choice([0.5, 1.0], shape[made] if each else ()), np.float32)
    inputs = [codes, g.constant(steps)]
    if g.chance(0.6):
        inputs.append(g.constant(np.zeros(steps.shape, np.int8)))
    name = g.node("DequantizeLinear", inputs, **({"axis": made} if each else {}))[0]
    wide = steps.reshape([-1 if a == made and each else 1 for a in range(len(shape))])
    return name, (array * wide).astype(np.float32)


@piece(weight=2)
def quantized_linear(g: Maker) -> None:
    """A Conv or Gemm in the form that quantizers write."""
    x = g.pick(lambda t: t.dtype == np.float32 and t.rank in (2, 4) and not t.moving[1])
    if x is None or (not g.exact and g.chance(0.8)):
        return
    if g.exact and x.scale.grain > 0:
        x = fake_quantized(g, x)
    outputs = g.integer(2, 6)
    if x.rank == 2:
        name, array = weights_of_codes(g, (outputs, x.shape[1]), 0, 1)
        attributes: dict[str, Any] = {"transB": 1}
        shape: tuple[int, ...] = (x.shape[0], outputs)
        op = "Gemm"
    else:
        w = window(g, x.shape[2:])
        groups = g.choice([1, 1, 1, g.divisor(x.shape[1])])
        outputs = groups * g.integer(1, max(1, 6 // groups))
        weights = (outputs, x.shape[1] // groups, *w.kernel)
        name, array = weights_of_codes(g, weights, 0, 1)
        attributes = w.attributes | ({"group": groups} if groups > 1 else {})
        op, shape = "Conv", (x.shape[0], outputs, *w.space)
    inputs: list[Tensor | str] = [x, name]
    bias = g.bias(array).round() if g.chance(0.7) else None
    if bias is not None:
        step = np.array(g.choice([0.125, 0.25]), np.float32)
        numbers = g.constant((bias / step).astype(np.int32))
        inputs.append(g.node("DequantizeLinear", [numbers, g.constant(step)])[0])
    g.add(op, inputs, shape, scale=summed(x.scale, array, bias), **attributes)


@piece(weight=3)
def two_branches(g: Maker) -> None:
    """Two linear layers of one tensor, each with dead channels of its own, that meet again."""
    x = g.pick(lambda t: t.rank >= 2, in_front)
    if x is None:
        return
    outputs = g.choice([3, 4, 6, 8, x.shape[1]])
    sides = [side for side in (_side(g, x, outputs) for _ in range(2)) if side is not None]
    sides = [*sides, *([x] if x.shape[x.channel] == outputs and g.chance(0.3) else [])][-2:]
    if len(sides) < 2 or not sides[0].like(sides[1]):
        return
    a, b = sides
    op = g.choice(["Add", "Sub", "Mul", "Mul", "Min", "Max", "Where", "Concat"])
    if op == "Where":
        mask = g.rng.random((outputs, *[1] * (a.rank - 1 - a.channel))) < 0.5
        g.add(op, [g.constant(mask), a, b], a.shape, a.moving, a.scale.joined(b.scale))
    elif op == "Concat":
        shape = [size * (1 + (axis == a.channel)) for axis, size in enumerate(a.shape)]
        g.add(op, [a, b], shape, scale=a.scale.joined(b.scale), axis=a.channel)
    else:
        g.add(op, [a, b], scale=a.scale * b.scale if op == "Mul" else a.scale + b.scale)


def _side(g: Maker, x: Tensor, outputs: int) -> Tensor | None:
    """A pointwise Conv, or a MatMul with an Add, and perhaps a Relu."""
    if with_space(x):
        shape = (outputs, x.shape[1], *[1] * (x.rank - 2))
        name, array = g.weight(shape, x.dtype, made=0, read=1)
        bias = g.bias(array, x.dtype)
        inputs: list[Tensor | str] = [x, name, g.constant(bias)]
        scale = summed(x.scale, array, bias)
        y = g.add("Conv", inputs, (x.shape[0], outputs, *x.shape[2:]), scale=scale, channel=1)
    elif not x.moving[-1]:
        name, array = g.weight((x.shape[-1], outputs), x.dtype, made=1, read=0)
        scale, bias = summed(x.scale, array.T), g.bias(array.T, x.dtype)
        shape = (*x.shape[:-1], outputs)
        y = g.add("MatMul", [x, name], shape, scale=scale, channel=x.rank - 1)
        y = g.add("Add", [y, g.constant(bias)], scale=scale + scale_of(bias))
    else:
        return None
    return g.add("Relu", [y]) if g.chance(0.3) else y
