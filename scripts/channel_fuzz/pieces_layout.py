"""Pieces that only move cells: joining, cutting, padding, other orders and other shapes."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from channel_fuzz.maker import Attributes, Ints, Maker, Tensor
from channel_fuzz.pieces_linear import in_front, with_space
from channel_fuzz.registry import piece
from channel_fuzz.scale import Scale, scale_of, summed

FAR = 2**63 - 1


def put(sizes: tuple[Any, ...], axis: int, value: Any) -> list[Any]:
    """The tuple with another value at ``axis``."""
    return [*sizes[:axis], value, *sizes[axis + 1 :]]


def signed(g: Maker, axis: int, rank: int) -> int:
    """The axis, now and then counted from the back."""
    return axis - rank if g.chance(0.3) else axis


def known_axis(g: Maker, x: Tensor) -> int | None:
    """An axis of known size over one, mostly the channels'."""
    axes = [a for a in range(x.rank) if not x.moving[a] and x.shape[a] > 1]
    if x.channel in axes and g.chance(0.75):
        return x.channel
    return g.choice(axes) if axes else None


@piece(weight=4)
def concat(g: Maker) -> None:
    x = g.pick()
    axis = known_axis(g, x) if x is not None else None
    if x is None or axis is None:
        return

    def fits(t: Tensor) -> bool:
        if t.rank != x.rank or t.dtype != x.dtype or t.scale.bound > 4096:
            return False
        same = put(t.shape, axis, 0) == put(x.shape, axis, 0)
        return same and t.moving == x.moving and t.shape[axis] < 10

    parts = [x] + [g.choice([t for t in g.open if fits(t)] or [x]) for _ in range(g.integer(1, 2))]
    names: list[Tensor | str] = [*parts]
    scale = x.scale.joined(*(t.scale for t in parts))
    size = sum(t.shape[axis] for t in parts)
    if x.fixed and g.chance(0.2):
        array = g.constants(2, x.dtype).reshape([2 if a == axis else 1 for a in range(x.rank)])
        array = np.broadcast_to(array, put(x.shape, axis, 2))
        names.append(g.constant(np.ascontiguousarray(array)))
        scale, size = scale.joined(scale_of(array)), size + 2
    shape = put(x.shape, axis, size)
    g.add("Concat", names, shape, scale=scale, axis=signed(g, axis, x.rank))


@piece(weight=2.5)
def split(g: Maker) -> None:
    x = g.pick()
    axis = known_axis(g, x) if x is not None else None
    if x is None or axis is None:
        return
    size, count = x.shape[axis], g.choice([2, 2, 3])
    attributes: dict[str, Any] = {"axis": signed(g, axis, x.rank)}
    inputs = [x.name]
    if size % count == 0 and g.chance(0.5):
        sizes = [size // count] * count
        if g.opset >= 18:
            attributes["num_outputs"] = count
    else:
        cut = g.integer(1, size - 1)
        sizes = [cut, size - cut]
        if g.opset < 13:
            attributes["split"] = sizes
        else:
            inputs.append(g.ints(sizes))
    names = g.node("Split", inputs, len(sizes), **attributes)
    for name, part in zip(names, sizes, strict=True):
        g.opened(replace(x, name=name), put(x.shape, axis, part))


@piece(weight=3)
def slice_(g: Maker) -> None:
    x = g.pick()
    axis = known_axis(g, x) if x is not None else None
    if x is None or axis is None:
        return
    axes = [axis]
    if x.rank > 2 and g.chance(0.3):
        axes += [a for a in range(1, x.rank) if a != axis and x.shape[a] > 2][:1]
    shape = list(x.shape)
    starts, ends, steps = rows = tuple[Ints, ...]([] for _ in range(3))
    for a in axes:
        size, step = x.shape[a], g.choice([1, 1, 1, 2, -1, -2])
        if x.moving[a]:
            start, end, step = 0, FAR, g.choice([1, 2])
        elif step < 0:
            start, end = g.choice([(-1, -FAR), (size - 1, -size - 1), (FAR, 0)])
        else:
            start = g.integer(0, size - 1)
            end = g.choice([FAR, size, g.integer(start + 1, size)])
            start = start - size if g.chance(0.2) else start
        for row, value in zip(rows, (start, end, step), strict=True):
            row.append(value)
        shape[a] = len(range(*slice(start, end, step).indices(size)))
    if 0 in shape:
        return
    inputs: list[Tensor | str] = [x, g.ints(starts), g.ints(ends)]
    plain = all(step == 1 for step in steps)
    if not (plain and axes == list(range(len(axes))) and g.chance(0.8)):
        inputs.append(g.ints(signed(g, a, x.rank) for a in axes))
    if not plain or (len(inputs) == 4 and g.chance(0.3)):
        inputs.append(g.ints(steps))
    g.add("Slice", inputs, shape)


@piece(weight=2)
def gather(g: Maker) -> None:
    x = g.pick()
    axis = known_axis(g, x) if x is not None else None
    if x is None or axis is None:
        return
    size = x.shape[axis]
    index = g.rng.integers(-size, size, g.integer(1, min(size + 2, 8)))
    if g.chance(0.4):
        index = g.rng.permutation(size)[: max(1, g.integer(size // 2, size))]
    shape, moving = put(x.shape, axis, len(index)), x.moving
    if g.chance(0.15) and x.rank > 2:
        index = np.asarray(index[0])
        shape = [*x.shape[:axis], *x.shape[axis + 1 :]]
        moving = (*x.moving[:axis], *x.moving[axis + 1 :])
    elif g.chance(0.1) and len(index) % 2 == 0 and x.rank < 5:
        index = index.reshape(2, -1)
        shape = [*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]]
        moving = (*x.moving[:axis], False, False, *x.moving[axis + 1 :])
    named = g.constant(index.astype(g.choice([np.int64, np.int32])), "i")
    g.add("Gather", [x, named], shape, moving, axis=signed(g, axis, x.rank))


@piece(weight=2.5)
def pad(g: Maker) -> None:
    x = g.pick(lambda t: t.rank >= 2 and prod(t.shape) < 1500)
    if x is None:
        return
    modes = ["constant"] * 4 + ["reflect", "edge"] + (["wrap"] if g.opset >= 19 else [])
    mode = g.choice(modes)
    low, high = [0] * x.rank, [0] * x.rank
    for axis in range(1, x.rank):
        channels = axis == 1 and x.rank > 2
        if (mode == "constant" or not channels) and g.chance(0.5):
            limit = min(2, x.shape[axis] - 1) if mode != "constant" else 2
            low[axis], high[axis] = g.integer(0, limit), g.integer(0, limit)
    if x.fixed and mode == "constant" and g.chance(0.1):
        high[0] = 1
    shape = [size + a + b for size, a, b in zip(x.shape, low, high, strict=True)]
    axes = [a for a in range(x.rank) if low[a] or high[a]] or [x.rank - 1]
    fill = np.array(g.choice([0, 0, 1, -2]), x.dtype)
    chosen = g.opset >= 18 and g.chance(0.4)
    pads = [v[a] for v in (low, high) for a in axes] if chosen else low + high
    inputs: list[Tensor | str] = [x, g.ints(pads)]
    if mode == "constant" and (fill or g.chance(0.5)):
        inputs.append(g.constant(fill))
    if chosen:
        inputs += [""] * (3 - len(inputs))
        inputs.append(g.ints(axes))
    scale = x.scale.joined(scale_of(fill), Scale(0.0, 1.0))
    attributes: Attributes = {} if mode == "constant" and g.chance(0.5) else {"mode": mode}
    g.add("Pad", inputs, shape, scale=scale, **attributes)


@piece(weight=3)
def transpose(g: Maker) -> None:
    """Mostly between channels first and last."""
    x = g.pick(lambda t: t.rank >= 3)
    if x is None:
        return
    last = [0, *range(2, x.rank), 1]
    first = [0, x.rank - 1, *range(1, x.rank - 1)]
    if x.channel in (1, x.rank - 1) and g.chance(0.7):
        order = last if x.channel == 1 else first
        reordered(g, x, order)
        return
    order = g.choice([last, first, [0, *(1 + g.rng.permutation(x.rank - 1)).tolist()]])
    reordered(g, x, order)


def reordered(g: Maker, x: Tensor, order: list[int]) -> Tensor:
    """A Transpose."""
    shape, moving = [x.shape[a] for a in order], [x.moving[a] for a in order]
    return g.add("Transpose", [x], shape, moving, channel=order.index(x.channel), perm=order)


def reshaped(g: Maker, x: Tensor, shape: list[int], moving: list[bool]) -> Tensor:
    """A Reshape to known sizes, with 0 for a copy or -1 for the rest where the size is dynamic.

    As it is where the file could not tell it.
    """
    target = list(shape)
    for axis in (a for a, moves in enumerate(moving) if moves):
        copied = axis < x.rank and x.moving[axis] and x.shape[axis] == shape[axis]
        target[axis] = 0 if copied and (g.chance(0.5) or -1 in target) else -1
    if target.count(-1) > 1:
        return x
    static = [a for a, moves in enumerate(moving) if not moves]
    if -1 not in target and static and g.chance(0.3):
        target[g.choice(static)] = -1
    if static and g.chance(0.15):
        axis = g.choice(static)
        if axis < x.rank and x.shape[axis] == shape[axis] and not x.moving[axis]:
            target[axis] = 0
    return g.add("Reshape", [x, g.ints(target)], shape, moving)


def sequence(g: Maker) -> Tensor | None:
    """[N, steps, features] from a tensor of rank three or more, its channels last."""
    x = g.pick(lambda t: t.rank >= 3 and not any(t.moving[1:]) and t.scale.bound <= 100)
    if x is None or prod(x.shape) > 600 or x.dtype != np.float32:
        return None
    if x.channel != x.rank - 1:
        others = [axis for axis in range(x.rank) if axis != x.channel]
        x = reordered(g, x, [*others, x.channel])
    if x.rank == 3:
        return x
    shape = [x.shape[0], prod(x.shape[1:-1]), x.shape[-1]]
    return replace(reshaped(g, x, shape, list(x.moving[:3])), channel=2)


@piece(weight=4)
def merge_axes(g: Maker) -> None:
    """Flatten, or a Reshape that merges two neighbouring axes."""
    x = g.pick(lambda t: t.rank >= 3 and prod(t.shape[1:]) <= 400)
    if x is None:
        return
    if g.chance(0.4) and not any(x.moving[1:]):
        size = prod(x.shape[1:])
        shape, moving = [x.shape[0], size], [x.moving[0], False]
        if g.chance(0.6):
            attributes: Attributes = {} if g.chance(0.5) else {"axis": 1}
            g.add("Flatten", [x], shape, moving, **attributes)
        else:
            reshaped(g, x, shape, moving)
        return
    start = g.integer(0, x.rank - 2)
    parts = x.moving[start : start + 2]
    shape = [*x.shape[:start], prod(x.shape[start : start + 2]), *x.shape[start + 2 :]]
    moving = [*x.moving[:start], any(parts), *x.moving[start + 2 :]]
    if sum(moving) <= 1:
        reshaped(g, x, shape, moving)


@piece(weight=2.5)
def split_axis(g: Maker) -> None:
    """A Reshape that makes two axes of one."""
    x = g.pick(lambda t: t.rank <= 4)
    axis = known_axis(g, x) if x is not None else None
    if x is None or axis is None:
        return
    one = g.divisor(x.shape[axis])
    parts = (one, x.shape[axis] // one)
    if 1 in parts and g.chance(0.7):
        return
    shape = [*x.shape[:axis], *parts, *x.shape[axis + 1 :]]
    moving = [*x.moving[:axis], False, False, *x.moving[axis + 1 :]]
    y = reshaped(g, x, shape, moving)
    if g.chance(0.3):
        reordered(g, y, [0, *(1 + g.rng.permutation(y.rank - 1)).tolist()])


@piece(weight=0.7)
def other_blocks(g: Maker) -> None:
    """A Reshape from several axes to several others."""
    x = g.pick(lambda t: t.rank >= 3 and not any(t.moving[1:]) and prod(t.shape[1:]) <= 300)
    if x is not None:
        size = prod(x.shape[1:])
        one = g.divisor(size)
        reshaped(g, x, [x.shape[0], one, size // one], [x.moving[0], False, False])


@piece(weight=1)
def squeeze(g: Maker) -> None:
    """Unsqueeze, or Squeeze where some axis has one cell."""
    x = g.pick()
    if x is None:
        return
    thin = [a for a in range(1, x.rank) if x.shape[a] == 1 and not x.moving[a]]
    if not thin or x.rank < 3:
        if x.rank < 5:
            unsqueezed(g, x, g.integer(1, x.rank))
        return
    axis = g.choice(thin)
    shape = [*x.shape[:axis], *x.shape[axis + 1 :]]
    moving = [*x.moving[:axis], *x.moving[axis + 1 :]]
    channel = x.channel - (axis < x.channel)
    if len(thin) == 1 and x.shape[0] != 1 and x.fixed and g.chance(0.3):
        g.add("Squeeze", [x], shape, moving, channel=channel)
    elif g.opset < 13:
        g.add("Squeeze", [x], shape, moving, channel=channel, axes=[axis])
    else:
        g.add("Squeeze", [x, g.ints([axis])], shape, moving, channel=channel)


@piece(weight=1)
def expand(g: Maker) -> None:
    """Expand of a thin axis, which may be a new one, or Tile of any."""
    x = g.pick(lambda t: prod(t.shape) <= 400)
    if x is None:
        return
    axes = [a for a in range(1, x.rank) if not x.moving[a]]
    if axes and g.chance(0.4):
        axis = g.choice(axes)
        times = put((1,) * x.rank, axis, 2)
        g.add("Tile", [x, g.ints(times)], put(x.shape, axis, 2 * x.shape[axis]))
        return
    if x.rank < 5 and g.chance(0.5):
        x = unsqueezed(g, x, g.integer(1, x.rank))
    thin = [a for a in range(1, x.rank) if x.shape[a] == 1 and not x.moving[a]]
    if not thin:
        return
    axis = g.choice(thin)
    target = [1 if moves else size for size, moves in zip(x.shape, x.moving, strict=True)]
    target = [1 if a != axis and g.chance(0.3) else size for a, size in enumerate(target)]
    target[axis] = g.integer(2, 4)
    shape = put(x.shape, axis, target[axis])
    g.add("Expand", [x, g.ints(target[1:] if g.chance(0.2) else target)], shape)


def unsqueezed(g: Maker, x: Tensor, axis: int) -> Tensor:
    """A new axis of one cell."""
    shape, moving = list(x.shape), list(x.moving)
    shape.insert(axis, 1)
    moving.insert(axis, False)
    channel = x.channel + (axis <= x.channel)
    if g.opset < 13:
        return g.add("Unsqueeze", [x], shape, moving, channel=channel, axes=[axis])
    return g.add("Unsqueeze", [x, g.ints([axis])], shape, moving, channel=channel)


@piece(weight=1.5)
def shuffle(g: Maker) -> None:
    x = g.pick(lambda t: t.rank in (3, 4) and not t.moving[1] and t.shape[1] in (4, 6, 8, 9, 12))
    if x is None or any(x.moving[2:]):
        return
    one = g.choice([d for d in range(2, x.shape[1]) if x.shape[1] % d == 0])
    parts = [one, x.shape[1] // one]
    rest = [False] * (x.rank - 2)
    moving = [x.moving[0], False, False, *rest]
    y = reshaped(g, x, [x.shape[0], *parts, *x.shape[2:]], moving)
    y = reordered(g, y, [0, 2, 1, *range(3, y.rank)])
    reshaped(g, y, list(x.shape), list(x.moving))


@piece(weight=1.5)
def depth_space(g: Maker) -> None:
    x = g.pick(lambda t: t.rank == 4 and not t.moving[1] and prod(t.shape) <= 500, in_front)
    if x is None:
        return
    n, c, h, w = x.shape
    if h % 2 == 0 and w % 2 == 0 and c <= 4 and g.chance(0.7):
        g.add("SpaceToDepth", [x], (n, 4 * c, h // 2, w // 2), blocksize=2)
        return
    if c % 4 or g.chance(0.6):
        x = whole_blocks(g, x, g.choice([8, 12]))
    mode: Attributes = {} if g.chance(0.4) else {"mode": g.choice(["DCR", "CRD"])}
    g.add("DepthToSpace", [x], (n, x.shape[1] // 4, 2 * h, 2 * w), blocksize=2, **mode)


def whole_blocks(g: Maker, x: Tensor, outputs: int) -> Tensor:
    """A Conv of which all channels of a pixel are dead, in one of the two orders."""
    array = g.numbers((outputs, x.shape[1], 1, 1), x.dtype)
    places = np.arange(outputs)
    places = places // 4 if g.chance(0.5) else places % (outputs // 4)
    array[places == 0] = 0
    bias = np.where(places == 0, g.choice([0, 1, 2]), g.numbers((outputs,))).astype(x.dtype)
    shape = (x.shape[0], outputs, *x.shape[2:])
    inputs: list[Tensor | str] = [x, g.constant(array), g.constant(bias)]
    return g.add("Conv", inputs, shape, scale=summed(x.scale, array, bias), channel=1)


@piece(weight=0.5)
def computed_shape(g: Maker) -> None:
    """A Reshape to a shape that is read from the tensor, as exporters write it."""
    x = g.pick(lambda t: with_space(t) and not any(t.moving[1:]))
    if x is None:
        return
    shape = g.node("Shape", [x.name])[0]
    first = g.node("Gather", [shape, g.constant(np.array(0, np.int64))], axis=0)[0]
    axes: Attributes = {"axes": [0]} if g.opset < 13 else {}
    more = [] if axes else [g.ints([0])]
    first = g.node("Unsqueeze", [first, *more], **axes)[0]
    if g.chance(0.5):
        tail = g.ints([prod(x.shape[1:])] if g.chance(0.5) else [-1])
        size, moving = [x.shape[0], prod(x.shape[1:])], [x.moving[0], False]
    else:
        second = g.node("Gather", [shape, g.ints([1])], axis=0)[0]
        tail = g.node("Concat", [second, g.ints([-1])], axis=0)[0]
        size, moving = [*x.shape[:2], prod(x.shape[2:])], [x.moving[0], False, False]
    target = g.node("Concat", [first, tail], axis=0)[0]
    g.add("Reshape", [x, target], size, moving)
