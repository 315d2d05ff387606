"""Activations, arithmetic with broadcasting, and norms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from channel_fuzz.maker import CONTRIB, Attributes, Maker, Tensor
from channel_fuzz.pieces_linear import at_end, in_front
from channel_fuzz.registry import piece
from channel_fuzz.scale import Array, Scale, scale_of


def _same(s: Scale) -> Scale:
    return s


def _small(s: Scale) -> Scale:
    return s.rough(4.0)


def _rough(s: Scale) -> Scale:
    return s.rough(s.bound + 2)


def _grid(s: Scale) -> Scale:
    """Of whole numbers, where the input is exact: steps of rounded numbers prove nothing."""
    return replace(s, bound=s.bound + 1, grain=1.0)


UNARY: dict[str, tuple[int, Callable[[Scale], Scale], dict[str, Any]]] = {
    "Relu": (11, _same, {}),
    "Abs": (11, _same, {}),
    "Neg": (11, _same, {}),
    "Identity": (11, _same, {}),
    "LeakyRelu": (11, lambda s: s * Scale(1.0, 0.25), {"alpha": 0.25}),
    "ThresholdedRelu": (11, _same, {"alpha": 1.5}),
    "Shrink": (11, lambda s: s + Scale(0.5, 0.5), {"lambd": 0.5, "bias": 0.5}),
    "HardSigmoid": (11, lambda s: Scale(1.0, s.grain / 4), {"alpha": 0.25, "beta": 0.5}),
    "Sigmoid": (11, _small, {}),
    "Tanh": (11, _small, {}),
    "Softplus": (11, _rough, {}),
    "Softsign": (11, _small, {}),
    "Elu": (11, _rough, {}),
    "Selu": (11, _rough, {}),
    "Celu": (12, _rough, {"alpha": 2.0}),
    "Erf": (11, _small, {}),
    "Sin": (11, _small, {}),
    "Cos": (11, _small, {}),
    "Atan": (11, _small, {}),
    "Asinh": (11, _rough, {}),
    "HardSwish": (14, _rough, {}),
    "Mish": (18, _rough, {}),
    "Gelu": (20, _rough, {}),
    "Swish": (24, _rough, {"alpha": 0.5}),
    f"{CONTRIB}.Gelu": (11, _rough, {}),
    f"{CONTRIB}.QuickGelu": (11, _rough, {}),
}
STEPS = {"Floor": _grid, "Ceil": _grid, "Round": _grid, "Sign": _grid}


@piece(weight=7)
def unary(g: Maker) -> None:
    x = g.pick()
    if x is None:
        return
    names = [name for name, (since, _, _) in UNARY.items() if since <= g.opset]
    name = "Relu" if g.chance(0.3) else g.choice(names)
    _, scale, attributes = UNARY[name]
    g.add(name, [x], scale=scale(x.scale), **attributes)


@piece(weight=0.7)
def step(g: Maker) -> None:
    """A step of numbers that are exact: others may fall on either side of it."""
    x = g.pick(lambda t: t.scale.grain > 0) if g.exact else None
    if x is not None:
        name = g.choice(list(STEPS))
        g.add(name, [x], scale=STEPS[name](x.scale))


@piece(weight=1)
def clip(g: Maker) -> None:
    x = g.pick()
    if x is None:
        return
    low, high = g.choice([(0.0, 6.0), (-1.0, 1.0), (1.0, 3.0), (None, 4.0), (0.5, None)])
    names = ["" if v is None else g.constant(np.array(v, x.dtype)) for v in (low, high)]
    names = names[:1] if high is None else names
    scale = x.scale + Scale(0.0, 0.5)
    g.add("Clip", [x, *names], scale=replace(scale, bound=max(6.0, x.scale.bound)))


@piece(weight=0.5)
def dropout(g: Maker) -> None:
    """At inference: nothing."""
    x = g.pick()
    if x is not None and g.opset < 12:
        g.add("Dropout", [x], ratio=0.3)
    elif x is not None:
        g.add("Dropout", [x, g.constant(np.array(0.3, np.float32))])


@piece(weight=1.5)
def prelu(g: Maker) -> None:
    x = g.pick()
    if x is None:
        return
    shape = broadcast_shape(g, x)
    if g.chance(0.6) and x.rank >= 3 and not x.moving[1]:
        shape = (x.shape[1], *[1] * (x.rank - 2))
    slope = g.numbers(shape, x.dtype) / 4
    g.add("PRelu", [x, g.constant(slope)], scale=x.scale * scale_of(slope).joined(Scale(1, 1)))


def broadcast_shape(g: Maker, x: Tensor) -> tuple[int, ...]:
    """A shape that goes with x's: scalar, channels, rows, or all that is known."""
    full = [1 if moving else size for size, moving in zip(x.shape, x.moving, strict=True)]
    some = [size if g.chance(0.5) else 1 for size in full]
    channels = [size if axis == x.channel else 1 for axis, size in enumerate(full)]
    forms = [(), (1,), tuple(channels), tuple(channels), tuple(full), tuple(some)]
    forms += [tuple(channels[x.channel :]), tuple(full[-1:]), tuple(some[1:])]
    return g.choice(forms)


def spread_channels(g: Maker, array: Array) -> Array:
    """The array with random whole slices of one of its axes zero, or one constant."""
    axes = [axis for axis, size in enumerate(array.shape) if size > 1]
    if axes:
        axis = g.choice(axes)
        rows = np.moveaxis(array, axis, 0)
        dead = g.some(len(rows), g.dead)
        fill = g.constants(len(rows), array.dtype)
        rows[dead] = fill[dead].reshape(-1, *[1] * (rows.ndim - 1))
    return array


@piece(weight=3)
def with_constant(g: Maker) -> None:
    """Arithmetic with a constant of any shape that can be broadcast."""
    x = g.pick()
    if x is None:
        return
    array = spread_channels(g, g.numbers(broadcast_shape(g, x), x.dtype))
    op = g.choice(["Add", "Sub", "Mul", "Mul", "Div", "Min", "Max"])
    scale, other = x.scale, scale_of(array)
    if op == "Div":
        array = np.where(np.abs(array) < 0.25, np.float32(2), array).astype(x.dtype)
        scale = x.scale.rough(x.scale.bound * 4)
    elif op == "Mul":
        scale = scale * other
    else:
        scale = scale + other
    order: list[Tensor | str] = [x, g.constant(array)]
    if op != "Div" and g.chance(0.3):
        order.reverse()
    g.add(op, order, scale=scale)


def partner(g: Maker, x: Tensor) -> Tensor:
    """Another tensor of x's shape, or x itself."""
    return g.choice([t for t in g.open if t.like(x) and t.scale.bound <= 4096] or [x])


@piece(weight=5)
def of_two(g: Maker) -> None:
    """Arithmetic of two or three tensors of one shape."""
    x = g.pick()
    if x is None:
        return
    y = partner(g, x)
    op = g.choice(["Add", "Add", "Add", "Sub", "Mul", "Min", "Max", "Sum", "Mean"])
    scale = x.scale * y.scale if op == "Mul" else x.scale + y.scale
    inputs = [x, y]
    if op in ("Sum", "Mean", "Min", "Max") and g.chance(0.4):
        inputs.append(partner(g, x))
        scale = scale + inputs[-1].scale
    exact = op != "Mean" or len(inputs) == 2
    scale = replace(scale, grain=scale.grain / 2 if op == "Mean" else scale.grain)
    g.add(op, inputs, scale=scale if exact else scale.rough())


@piece(weight=0.7)
def power(g: Maker) -> None:
    x = g.pick(lambda t: t.scale.bound <= 64)
    if x is not None:
        exponent = g.choice([np.array(2, x.dtype), np.full((x.shape[-1],), 2, x.dtype)])
        exponent = np.array(2, x.dtype) if x.moving[-1] else exponent
        g.add("Pow", [x, g.constant(exponent)], scale=(x.scale * x.scale).rough())


@piece(weight=1)
def where(g: Maker) -> None:
    x = g.pick()
    if x is None:
        return
    y = partner(g, x)
    if g.chance(0.8):
        condition = g.constant(g.rng.random(broadcast_shape(g, x)) < 0.5)
    else:
        condition = g.node("Greater", [x.name, g.constant(np.array(0.5, x.dtype))])[0]
    g.add("Where", [condition, x, y], scale=x.scale.joined(y.scale))


@piece(weight=4)
def batch_norm(g: Maker, x: Tensor | None = None) -> None:
    x = x or g.pick(lambda t: t.rank >= 2 and not t.moving[1], in_front)
    if x is None:
        return
    size, kind = x.shape[1], x.dtype
    gamma = g.numbers((size,), kind)
    gamma[g.some(size, g.dead)] = 0
    beta = np.where(gamma == 0, g.constants(size, kind), g.numbers((size,), kind)).astype(kind)
    mean = g.numbers((size,), kind)
    whole = g.whole and g.chance(0.7)
    variance = g.rng.choice([1, 4, 0.25], size).astype(kind)
    epsilon: Attributes = {"epsilon": 0.0} if whole else {}
    inputs: list[Tensor | str] = [
        x,
        *(g.constant(array) for array in (gamma, beta, mean, variance)),
    ]
    bound = 4 * (x.scale.bound + 3) + 3
    scale = Scale(bound, x.scale.grain / 4 if whole else 0.0)
    g.add("BatchNormalization", inputs, scale=scale, **epsilon)


@piece(weight=1)
def instance_norm(g: Maker) -> None:
    x = g.pick(lambda t: with_pixels(t) and not t.moving[1], in_front)
    if x is None:
        return
    scale, shift = _scale_and_shift(g, x.shape[1], x.dtype)
    g.add("InstanceNormalization", [x, scale, shift], scale=x.scale.rough(20.0), epsilon=1e-3)


def with_pixels(t: Tensor) -> bool:
    """Whether a channel has several numbers; of a single one, a norm leaves but rounding."""
    return t.rank >= 3 and int(np.prod(t.shape[2:])) > 2


@piece(weight=1.5, since=18)
def group_norm(g: Maker) -> None:
    x = g.pick(lambda t: with_pixels(t) and not t.moving[1], in_front)
    if x is None:
        return
    groups = g.divisor(x.shape[1])
    scale, shift = _scale_and_shift(g, groups if g.opset < 21 else x.shape[1], x.dtype)
    attributes: Attributes = {"num_groups": groups, "epsilon": 1e-3}
    g.add("GroupNormalization", [x, scale, shift], scale=x.scale.rough(20.0), **attributes)


@piece(weight=1, since=17)
def layer_norm(g: Maker) -> None:
    x = g.pick(lambda t: not t.moving[-1] and t.shape[-1] > 2)
    if x is not None:
        scale, shift = _scale_and_shift(g, x.shape[-1], x.dtype)
        inputs: list[Tensor | str] = [x, scale, shift] if g.chance(0.7) else [x, scale]
        g.add("LayerNormalization", inputs, scale=x.scale.rough(20.0), epsilon=1e-3)


@piece(weight=1.5)
def rms_norm(g: Maker) -> None:
    x = g.pick(lambda t: not t.moving[-1] and t.shape[-1] > 1, at_end)
    if x is None:
        return
    op = "RMSNormalization" if g.opset >= 23 and g.chance(0.7) else "SimplifiedLayerNormalization"
    scale, _ = _scale_and_shift(g, x.shape[-1], x.dtype)
    g.add(op, [x, scale], scale=x.scale.rough(20.0), axis=-1, epsilon=0.1)


def _scale_and_shift(g: Maker, size: int, dtype: Any) -> tuple[str, str]:
    scale = g.numbers((size,), dtype)
    scale[g.some(size, g.dead)] = 0
    return g.constant(scale), g.constant(g.constants(size, dtype))
