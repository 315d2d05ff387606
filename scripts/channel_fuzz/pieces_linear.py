"""Sums over channels: convolutions of all kinds, Gemm, MatMul, Einsum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from channel_fuzz.maker import Attributes, Ints, Maker, Tensor
from channel_fuzz.registry import piece
from channel_fuzz.scale import Array, scale_of, summed


@dataclass(frozen=True)
class Window:
    """Attributes of a window over the spatial axes, and the sizes that come out."""

    attributes: dict[str, Any]
    kernel: tuple[int, ...]
    space: tuple[int, ...]


def with_space(t: Tensor) -> bool:
    """Whether a tensor is [N, C, ...] with one to three spatial axes and known channels."""
    return 3 <= t.rank <= 5 and not t.moving[1]


def in_front(t: Tensor) -> bool:
    """Whether the channels lie behind the batch."""
    return t.channel == 1


def at_end(t: Tensor) -> bool:
    """Whether the channels lie last."""
    return t.channel == t.rank - 1


def window(g: Maker, space: tuple[int, ...], dilate: bool = True, pads: bool = True) -> Window:
    """A window that fits ``space``, padded in any of the ways, or not at all."""
    same = pads and g.chance(0.15)
    kernel, stride, dilation, low, high, out = rows = tuple[Ints, ...]([] for _ in range(6))
    even = g.chance(0.5)
    for size in space:
        k = min(g.choice([1, 2, 3, 3]), size)
        s = min(g.choice([1, 1, 1, 2]), k if same else 2)
        d = g.choice([1, 1, 2]) if dilate and not same and (k - 1) * 2 < size else 1
        reach = (k - 1) * d + 1
        a, b = (g.integer(0, min(k - 1, 2)) if g.chance(0.6) else 0 for _ in range(2))
        a, b = (a, a if even else b) if pads else (0, 0)
        out.append(-(-size // s) if same else (size + a + b - reach) // s + 1)
        for row, value in zip(rows[:5], (k, s, d, a, b), strict=True):
            row.append(value)
    attributes: dict[str, Any] = {"kernel_shape": kernel}
    if any(s > 1 for s in stride) or g.chance(0.3):
        attributes["strides"] = stride
    if any(d > 1 for d in dilation):
        attributes["dilations"] = dilation
    if same:
        attributes["auto_pad"] = g.choice(["SAME_UPPER", "SAME_LOWER"])
    elif any(low + high):
        attributes["pads"] = low + high
    elif g.chance(0.3):
        attributes["auto_pad"] = "VALID"
    return Window(attributes, tuple(kernel), tuple(out))


def groups_of(g: Maker, channels: int) -> int:
    """One group, some, or as many as there are channels."""
    return g.choice([1, 1, 1, 1, g.divisor(channels), channels])


@piece(weight=7)
def conv(g: Maker, x: Tensor | None = None, groups: int = 0, pads: bool = True) -> None:
    x = x or g.pick(with_space, in_front)
    if x is None:
        return
    w = window(g, x.shape[2:], pads=pads)
    groups = groups or groups_of(g, x.shape[1])
    outputs = (
        groups * g.integer(1, max(2, 8 // groups)) if groups > 2 else g.choice([3, 4, 5, 6, 8, 8])
    )
    outputs = -(-outputs // groups) * groups
    name, array = g.weight((outputs, x.shape[1] // groups, *w.kernel), x.dtype, made=0, read=1)
    inputs: list[Tensor | str] = [x, name]
    bias = g.bias(array, x.dtype) if g.chance(0.6) else None
    if bias is not None:
        inputs.append(g.constant(bias, "b"))
    attributes = w.attributes | ({"group": groups} if groups > 1 or g.chance(0.2) else {})
    shape = (x.shape[0], outputs, *w.space)
    scale = summed(x.scale, array, bias)
    g.add("Conv", inputs, shape, scale=scale, channel=1, **attributes)


@piece(weight=2)
def conv_transpose(g: Maker) -> None:
    x = g.pick(lambda t: with_space(t) and max(t.shape[2:]) <= 8, in_front)
    if x is None:
        return
    groups = g.choice([1, 1, 1, 1, g.divisor(x.shape[1])])
    each = g.integer(max(1, 3 // groups), max(1, 6 // groups))
    kernel, stride, low, high, extra, out = rows = tuple[Ints, ...]([] for _ in range(6))
    for size in x.shape[2:]:
        k, s = g.integer(1, 3), g.choice([1, 2, 2])
        e = g.integer(0, s - 1)
        full = s * (size - 1) + e + k
        a, b = (g.integer(0, min(k - 1, (full - 1) // 2)) for _ in range(2))
        out.append(full - a - b)
        for row, value in zip(rows[:5], (k, s, a, b, e), strict=True):
            row.append(value)
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": stride, "pads": low + high}
    if any(extra):
        attributes["output_padding"] = extra
    if groups > 1:
        attributes["group"] = groups
    name, array = g.weight((x.shape[1], each, *kernel), x.dtype, made=1, read=0)
    filters = np.moveaxis(array, 1, 0)
    inputs: list[Tensor | str] = [x, name]
    bias = np.tile(g.bias(filters, x.dtype), groups) if g.chance(0.6) else None
    if bias is not None:
        inputs.append(g.constant(bias, "b"))
    scale = summed(x.scale, filters, bias)
    g.add("ConvTranspose", inputs, (x.shape[0], each * groups, *out), scale=scale, **attributes)


@piece(weight=3)
def gemm(g: Maker, x: Tensor | None = None) -> None:
    x = x or g.pick(lambda t: t.rank == 2 and not t.moving[1])
    if x is None:
        return
    turned = x.fixed and g.chance(0.15)
    rows, inner = x.shape[::-1] if turned else x.shape
    outputs = g.integer(2, 8)
    attributes: Attributes = {"transA": 1} if turned else {}
    if g.chance(0.5):
        name, array = g.weight((outputs, inner), x.dtype, made=0, read=1)
        attributes["transB"] = 1
    else:
        name, array = g.weight((inner, outputs), x.dtype, made=1, read=0)
        array = array.T
    factors: Attributes = {}
    if g.chance(0.3):
        factors = {"alpha": g.choice([0.5, 2.0, -1.0]), "beta": g.choice([1.0, 2.0, 0.5, 0.0])}
    inputs: list[Tensor | str] = [x, name]
    bias = _gemm_bias(g, array, rows, not x.moving[1 if turned else 0], x.dtype)
    if bias is not None:
        inputs.append(g.constant(bias, "b"))
    scale = summed(x.scale, array * factors.get("alpha", 1.0))
    if bias is not None:
        scale = scale + scale_of(bias * factors.get("beta", 1.0))
    moving = (x.moving[1 if turned else 0], False)
    g.add("Gemm", inputs, (rows, outputs), moving, scale, **attributes, **factors)


def _gemm_bias(g: Maker, array: Array, rows: int, fixed: bool, dtype: Any) -> Array | None:
    """A bias in one of the shapes that can be broadcast."""
    row = g.bias(array, dtype)
    forms: list[Array | None] = [None, row, row, row[None], row[:1], np.asarray(row[0])]
    if fixed:
        forms += [g.numbers((rows, 1), dtype), g.numbers((rows, len(row)), dtype)]
    return g.choice(forms)


@piece(weight=4)
def matmul(g: Maker, x: Tensor | None = None) -> None:
    """A constant matrix on the right, often with an Add behind it."""
    x = x or g.pick(lambda t: t.rank >= 2 and not t.moving[-1], at_end)
    if x is None:
        return
    outputs = g.choice([2, 3, 4, 6, 8])
    name, array = g.weight((x.shape[-1], outputs), x.dtype, made=1, read=0)
    scale = summed(x.scale, array.T)
    shape = (*x.shape[:-1], outputs)
    y = g.add("MatMul", [x, name], shape, scale=scale, channel=x.rank - 1)
    if g.chance(0.6):
        bias = g.bias(array.T, x.dtype)
        named = g.constant(bias, "b")
        order: list[Tensor | str] = [y, named] if g.chance(0.8) else [named, y]
        g.add("Add", order, scale=y.scale + scale_of(bias))


@piece(weight=1)
def matmul_left(g: Maker) -> None:
    """A constant matrix on the left, or a stack of them on either side."""
    x = g.pick(lambda t: t.rank >= 3 and not any(t.moving[-2:]))
    if x is None:
        return
    outputs, stack = g.integer(2, 6), g.choice([(), (), (x.shape[-3],)])
    stack = () if x.moving[-3] else stack
    if g.chance(0.6):
        name, array = g.weight((*stack, outputs, x.shape[-2]), x.dtype, len(stack), len(stack) + 1)
        rows = array.reshape(-1, x.shape[-2])
        shape = (*x.shape[:-2], outputs, x.shape[-1])
        g.add("MatMul", [name, x], shape, scale=summed(x.scale, rows))
    else:
        stack = () if x.moving[-3] else (x.shape[-3],)
        name, array = g.weight((*stack, x.shape[-1], outputs), x.dtype, len(stack) + 1, len(stack))
        rows = np.swapaxes(array, -1, -2).reshape(-1, x.shape[-1])
        g.add("MatMul", [x, name], (*x.shape[:-1], outputs), scale=summed(x.scale, rows))


@piece(weight=1.5)
def product(g: Maker) -> None:
    """A product of two computed tensors: x times a transposed tensor of its own shape."""
    x = g.pick(lambda t: t.rank >= 2 and not t.moving[-1] and (t.rank > 2 or t.fixed))
    if x is None:
        return
    other = g.choice([t for t in g.open if t.like(x) and t.scale.bound <= 64] or [x])
    order = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
    sizes = [*other.shape[:-2], *other.shape[:-3:-1]]
    moves = [*other.moving[:-2], *other.moving[:-3:-1]]
    turned = g.add("Transpose", [other], sizes, moves, perm=order)
    size = x.shape[-1]
    scale = x.scale * other.scale
    moving = (*x.moving[:-1], x.moving[-2])
    shape = (*x.shape[:-1], x.shape[-2])
    scale = type(scale)(scale.bound * size, scale.grain)
    if g.opset >= 12 and x.rank == 3 and g.chance(0.3):
        g.add("Einsum", [x, other], shape, moving, scale, equation="bmk,bnk->bmn")
    else:
        g.add("MatMul", [x, turned], shape, moving, scale)


@piece(weight=0.5, since=12)
def einsum(g: Maker) -> None:
    x = g.pick(lambda t: t.rank == 4 and not t.moving[1])
    if x is None:
        return
    outputs = g.integer(2, 5)
    name, array = g.weight((x.shape[1], outputs), x.dtype, made=1, read=0)
    shape = (x.shape[0], outputs, *x.shape[2:])
    scale = summed(x.scale, array.T)
    g.add("Einsum", [x, name], shape, scale=scale, equation="nchw,ck->nkhw")
