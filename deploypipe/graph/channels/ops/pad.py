"""Pad: cells are added at the ends of an axis.

Padding an axis with the value v adds cells that are the constant v; padding other axes leaves a
constant channel constant only if it holds v already, or if its own edge is repeated.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Tie, axis_size, rank
from deploypipe.graph.channels.rule import LIVE, Kept, Rule, Values, constant_ints, ints
from deploypipe.graph.constants import add_initializer, constant_of, input_of


class Pad(Rule):
    """Padding with sizes that the file fixes."""

    ops: ClassVar[frozenset[str]] = frozenset({"Pad"})

    def refusal(self) -> str | None:
        if self.pads is None:
            return "has pads that are computed or negative"
        return "has a fill value that is computed" if self._fill is None else None

    def ties(self) -> Iterable[Tie | None]:
        for axis, (low, high) in enumerate(self.pads or []):
            size = axis_size(self.x, axis)
            if size is None or axis_size(self.y, axis) is None:
                continue
            if self._mode == "constant" or not (low or high):
                yield Tie((self.x, axis), (self.y, axis), np.arange(size), np.arange(size) + low)

    def values(self, known: Values) -> None:
        pads = self.pads or []
        for axis, (low, high) in enumerate(pads):
            size, old = axis_size(self.y, axis), axis_size(self.x, axis)
            if size is None or old is None or (self._mode != "constant" and (low or high)):
                continue
            vector = np.full(size, self._fill, np.float64)
            inside = known.of(self.x, axis)
            elsewhere = any(sum(pair) for other, pair in enumerate(pads) if other != axis)
            if elsewhere and self._mode == "constant":
                inside = np.where(inside == self._fill, inside, LIVE)
            vector[low : low + old] = inside
            known[self.y, axis] = vector

    def rewrite(self, kept: Kept) -> None:
        """The padded cells that stay are counted anew."""
        new = []
        for axis, (low, high) in enumerate(self.pads or []):
            old, size = axis_size(self.x, axis), axis_size(self.y, axis)
            if old is not None and size is not None:
                low, high = (
                    kept.count(self.y, axis, 0, low),
                    kept.count(self.y, axis, low + old, size),
                )
            new.append((low, high))
        numbers = [low for low, _ in new] + [high for _, high in new]
        graph = self.node.graph
        assert isinstance(graph, ir.Graph)
        if input_of(self.node, 1) is None:
            self.node.attributes["pads"] = ir.AttrInt64s("pads", numbers)
            return
        self.node.resize_inputs(min(len(self.node.inputs), 3))  # the form without `axes`
        pads = add_initializer(graph, f"{self.y.name}.pads", np.array(numbers, np.int64))
        self.node.replace_input_with(1, pads)

    @property
    def _mode(self) -> str:
        return self.node.attributes.get_string("mode", "constant") or "constant"

    @cached_property
    def pads(self) -> list[tuple[int, int]] | None:
        """(before, after) for every axis; None where unknown or negative."""
        numbers = constant_ints(self.node, 1)
        if input_of(self.node, 1) is None:
            numbers = ints(self.node, "pads", [])
        ndim = rank(self.x) or 0
        axes = list(range(ndim))
        if input_of(self.node, 3) is not None:
            chosen = constant_ints(self.node, 3)
            axes = [axis % ndim for axis in chosen] if chosen is not None else []
        if not numbers or len(numbers) != 2 * len(axes) or min(numbers) < 0:
            return None
        pads = [(0, 0)] * ndim
        for place, axis in enumerate(axes):
            pads[axis] = (numbers[place], numbers[len(axes) + place])
        return pads

    @cached_property
    def _fill(self) -> float | None:
        if input_of(self.node, 2) is None:
            return float(self.node.attributes.get_float("value", 0.0))
        array = constant_of(self.node.inputs[2])
        return None if array is None or array.size != 1 else float(array.reshape(-1)[0])
