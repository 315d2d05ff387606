"""Pad: cells are added at the ends of an axis.

Padding an axis with the value v adds cells that are the constant v; padding other axes leaves a
constant channel constant only if it holds v already.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Tie, axis_size, rank
from deploypipe.graph.channels.rule import LIVE, Kept, Rule, Values
from deploypipe.graph.constants import add_initializer, constant_of, input_of


class Pad(Rule):
    """Constant padding with sizes that the file fixes."""

    ops: ClassVar[frozenset[str]] = frozenset({"Pad"})

    def ties(self, node: ir.Node) -> Iterable[Tie | None]:
        x, y = node.inputs[0], node.outputs[0]
        pads = _pads(node)
        if x is None or pads is None:
            return
        for axis, (low, _) in enumerate(pads):
            size = axis_size(x, axis)
            if size is not None and axis_size(y, axis) is not None:
                yield Tie((x, axis), (y, axis), np.arange(size), np.arange(size) + low)

    def values(self, node: ir.Node, known: Values) -> None:
        x, y = node.inputs[0], node.outputs[0]
        pads, fill = _pads(node), _fill(node)
        if pads is None or fill is None:
            return
        for axis, (low, _) in enumerate(pads):
            size, old = axis_size(y, axis), axis_size(x, axis) if x else None
            if size is None or old is None:
                continue
            elsewhere = any(sum(pair) for other, pair in enumerate(pads) if other != axis)
            inside = known.of(x, axis)
            vector = np.full(size, fill)
            vector[low : low + old] = np.where(inside == fill, fill, LIVE) if elsewhere else inside
            known[y, axis] = vector

    def rewrite(self, node: ir.Node, kept: Kept) -> None:
        """The padded cells that stay are counted anew."""
        x, y, pads = node.inputs[0], node.outputs[0], _pads(node)
        if x is None or pads is None or not kept.touches(node):
            return
        new = []
        for axis, (low, high) in enumerate(pads):
            old, size = axis_size(x, axis), axis_size(y, axis)
            if old is None or size is None:
                new.append((low, high))
            else:
                ends = (kept.count(y, axis, 0, low), kept.count(y, axis, low + old, size))
                new.append(ends)
        array = np.array([low for low, _ in new] + [high for _, high in new], np.int64)
        assert isinstance(node.graph, ir.Graph)
        node.resize_inputs(min(len(node.inputs), 3))  # the form without `axes`
        node.replace_input_with(1, add_initializer(node.graph, f"{y.name}.pads", array))


def _pads(node: ir.Node) -> list[tuple[int, int]] | None:
    """(before, after) for every axis; None where unknown, negative or not constant-filled."""
    x = node.inputs[0]
    mode = node.attributes.get_string("mode", "constant")
    array = constant_of(input_of(node, 1))
    if x is None or rank(x) is None or array is None or mode != "constant" or _fill(node) is None:
        return None
    axes = list(range(rank(x) or 0))
    if input_of(node, 3) is not None:
        chosen = constant_of(node.inputs[3])
        if chosen is None:
            return None
        axes = [int(axis) % (rank(x) or 1) for axis in chosen]
    pads = [(0, 0)] * (rank(x) or 0)
    half = len(array) // 2
    for place, axis in enumerate(axes):
        pads[axis] = (int(array[place]), int(array[half + place]))
    return pads if all(low >= 0 and high >= 0 for low, high in pads) else None


def _fill(node: ir.Node) -> float | None:
    if input_of(node, 2) is None:
        return 0.0
    array = constant_of(node.inputs[2])
    return None if array is None or array.size != 1 else float(array.reshape(-1)[0])
