"""LSTM, GRU and RNN, as exporters write them."""

from __future__ import annotations

from typing import Any

import numpy as np

from channel_fuzz.maker import Maker, Tensor
from channel_fuzz.pieces_layout import reordered, reshaped, sequence
from channel_fuzz.registry import piece
from channel_fuzz.scale import Array

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@piece(weight=3)
def recurrent(g: Maker) -> None:
    x = sequence(g)
    if x is None:
        return
    x = reordered(g, x, [1, 0, 2])  # the time goes first
    op, units, directions = g.choice(list(GATES)), g.integer(2, 5), g.choice([1, 1, 2])
    inputs: list[Tensor | str] = [x, *parameters(g, op, directions, units, x.shape[2])]
    if x.fixed and g.chance(0.6):
        start = g.numbers((directions, x.shape[1], units))
        start[..., g.some(units, 0.8)] = 0
        inputs += [""] * (5 - len(inputs)) + [g.constant(start)]
    attributes: dict[str, Any] = {"hidden_size": units}
    if directions == 2:
        attributes["direction"] = "bidirectional"
    elif g.chance(0.2):
        attributes["direction"] = "reverse"
    if op == "GRU" and g.chance(0.5):
        attributes["linear_before_reset"] = 1
    steps, batch, _ = x.shape
    shape = (steps, directions, batch, units)
    moving = (False, False, x.moving[1], False)
    names = [t if isinstance(t, str) else t.name for t in inputs]
    outputs = g.node(op, names, g.integer(1, 3 if op == "LSTM" else 2), **attributes)
    bound = x.scale.rough(2.0)
    for name in outputs[1:]:
        last = Tensor(name, shape[1:], moving[1:], bound, x.dtype, 2)
        g.opened(last)
    y = g.opened(Tensor(outputs[0], shape, moving, bound, x.dtype, 3))
    if g.chance(0.8):
        y = reordered(g, y, [2, 0, 1, 3])
        sizes = [y.shape[0], steps, directions * units]
        reshaped(g, y, sizes, [y.moving[0], False, False])


def parameters(g: Maker, op: str, directions: int, units: int, inputs: int) -> list[str]:
    """W, R and mostly B, with units that are zero, and units and inputs that nobody reads."""
    gates = GATES[op]
    w = numbers(g, directions, gates, units, inputs)
    r = numbers(g, directions, gates, units, units)
    b = numbers(g, directions, 2, gates, units)
    still, unread = g.some(units, g.dead), g.some(units, g.dead / 2)
    both = slice(None) if g.chance(0.7) else slice(0, 1)
    w[both, -1, still] = r[both, -1, still] = 0
    if g.chance(0.7):
        b[both, :, -1, still] = 0
    r[..., unread] = 0
    w[..., g.some(inputs, g.dead / 2)] = 0
    rows = gates * units
    arrays: list[Array] = [w.reshape(directions, rows, inputs), r.reshape(directions, rows, units)]
    if g.chance(0.8):
        arrays.append(b.reshape(directions, 2 * rows))
    return [g.constant(array) for array in arrays]


def numbers(g: Maker, *shape: int) -> Array:
    """Small enough that no gate is shut for good."""
    return np.asarray(g.numbers(shape) / 4, np.float32)
