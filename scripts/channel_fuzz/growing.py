"""From a seed to a graph: an input, some pieces, a head, one to three outputs."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from channel_fuzz import (  # noqa: F401  the pieces enter themselves
    pieces_blocks,
    pieces_layout,
    pieces_linear,
    pieces_pointwise,
    pieces_recurrent,
    pieces_windows,
)
from channel_fuzz.maker import LARGE, Maker, Tensor
from channel_fuzz.pieces_layout import reordered
from channel_fuzz.pieces_linear import conv, gemm, matmul, with_space
from channel_fuzz.pieces_pointwise import batch_norm, unary
from channel_fuzz.registry import draw


@dataclass(frozen=True)
class Grown:
    """A random model, and what is known of its numbers."""

    model: onnx.ModelProto
    opset: int
    exact: bool
    """Whether small whole inputs give the same bits in any order of sums."""
    half: bool


def grow(seed: int, number: int, opset: int = 0) -> Grown:
    """Graph ``number`` of a seed."""
    g = Maker((seed, number), opset)
    for _ in range(2 if g.chance(0.15) else 1):
        _input(g)
    if g.chance(0.5):
        return _probe(g)
    if g.chance(0.9):
        g.keep_exact(lambda: _linear(g))
    for _ in range(g.choice([1, 2, 3, 4, 5, 6, 8, 10, 12])):
        _step(g)
        if g.chance(0.2):
            g.keep_exact(lambda: _linear(g))
    if g.chance(0.95):
        g.keep_exact(lambda: _linear(g))
    return Grown(g.model(_outputs(g)), g.opset, g.exact, g.half)


def _probe(g: Maker) -> Grown:
    """One piece between dead channels and their reader."""
    g.flat, g.strict, g.dead = True, False, g.choice([0.5, 0.7])
    _linear(g)
    if g.chance(0.4):
        g.choice([batch_norm, unary])(g)
    count, made = len(g.open), 0
    while len(g.open) == count and made < 20:
        draw(g)(g)
        made += 1
    _linear(g, pads=g.chance(0.5))
    return Grown(g.model([g.open[-1]]), g.opset, g.exact, g.half)


def _input(g: Maker) -> None:
    """Images first or last in their channels, volumes, sequences or rows."""
    channels = g.integer(2, 8)
    space = [g.integer(3, 6) for _ in range(g.choice([2, 2, 2, 1, 1, 3]))]
    if len(space) == 3:
        space = [min(size, 4) for size in space]
    first, last = (channels, *space), (*space, channels)
    channel, shape = g.choice([(1, first)] * 4 + [(len(last), last)] * 2 + [(1, (channels,))])
    still = [False] * len(shape)
    if g.dynamic and len(shape) > 2 and g.chance(0.15):
        still[1 if shape[-1] == channels else 2] = True  # a height that the file leaves open
    g.input((2 if g.dynamic else g.choice([1, 2]), *shape), (g.dynamic, *still), channel)


def _step(g: Maker) -> None:
    """One piece that finds a tensor to work on; then what is large is brought down."""
    before = len(g.open)
    for _ in range(12):
        make = draw(g)
        g.keep_exact(lambda make=make: make(g))  # type: ignore[misc]
        if len(g.open) > before:
            break
    last = g.open[-1]
    if last.scale.bound > LARGE and last.dtype.kind == "f":
        g.keep_exact(lambda: g.tame(last))


def _linear(g: Maker, pads: bool = True) -> None:
    """A linear layer first, whose dead rows the rest sees, and one last, that need not read all."""
    last = g.open[-1]
    if last.dtype.kind != "f":
        return
    if last.rank == 2 and not last.moving[1] and g.chance(0.7):
        gemm(g, last)
    elif with_space(last) and last.channel == 1 and g.chance(0.9):
        conv(g, last, 0 if g.chance(0.2) else 1, pads)
    else:
        if last.channel != last.rank - 1:
            others = [axis for axis in range(last.rank) if axis != last.channel]
            last = reordered(g, last, [*others, last.channel])
        if last.rank >= 2 and not last.moving[-1]:
            matmul(g, last)
    last = g.open[-1]
    if last.rank >= 2 and not last.moving[1] and g.chance(0.25):
        batch_norm(g, last)


def _outputs(g: Maker) -> list[Tensor]:
    """The last tensor, and now and then others, read already or not."""
    made = [t for t in g.open if t not in g.inputs] or [g.add("Identity", [g.open[-1]])]
    chosen = {made[-1].name: made[-1]}
    for _ in range(g.choice([0, 0, 0, 0, 1, 2])):
        loose = [t for t in made if t.name not in g.read]
        other = g.choice(loose if loose and g.chance(0.6) else made)
        chosen[other.name] = other
    return list(chosen.values())
