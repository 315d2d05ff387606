"""Slice: a strided window; y's index k along a cut axis is x's index start + k * step."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Index, Tie, axis_size, rank
from deploypipe.graph.channels.rule import (
    Joint,
    Kept,
    Rule,
    Values,
    constant_ints,
    ints,
    replace_nodes,
)
from deploypipe.graph.constants import add_initializer, free_name, input_of


class Slice(Rule):
    """Constant bounds on axes of known size; other axes that are cut are pinned."""

    ops: ClassVar[frozenset[str]] = frozenset({"Slice"})

    def refusal(self) -> str | None:
        return "has axes that are computed" if self._axes() is None else None

    def ties(self) -> Iterable[Tie | None]:
        cut = self._axes() or []
        for axis in range(rank(self.x) or 0):
            if axis not in cut:
                yield Tie.same((self.x, axis), (self.y, axis))
        for axis, index in self.windows.items():
            yield Tie((self.x, axis), (self.y, axis), index, np.arange(len(index)))

    def joint(self, known: Values) -> Joint | None:
        """A window of what is known along several axes."""
        given = known.joint.get(self.x)
        cut = self._axes() or []
        if given is None or any(k in given.axes and k not in self.windows for k in cut):
            return None
        array = given.array
        for place, axis in enumerate(given.axes):
            if axis in self.windows:
                array = array.take(self.windows[axis], place)
        return Joint(given.axes, array)

    @cached_property
    def windows(self) -> dict[int, Index]:
        """Axis -> the indices of x that y holds."""
        starts, ends, steps = (self._numbers(place) for place in (1, 2, 4))
        found = {}
        for place, axis in enumerate(self._axes() or []):
            size = axis_size(self.x, axis)
            if starts is None or ends is None or size is None:
                continue
            step = 1 if steps is None else steps[place]
            # An end below the first index, in a backward window, means: to the very beginning.
            end = None if step < 0 and ends[place] < -size else ends[place]
            index = np.arange(size)[slice(starts[place], end, step)]
            if len(index) == axis_size(self.y, axis):
                found[axis] = index
        return found

    def rewrite(self, kept: Kept) -> None:
        """New bounds where what stays is an unbroken window, otherwise Gathers."""
        graph = self.node.graph
        assert isinstance(graph, ir.Graph)
        places = {
            axis: kept.places(self.x, axis)[index[kept.index(self.y, axis)]]
            for axis, index in self.windows.items()
            if (self.x, axis) in kept.removed
        }
        if not places:
            return  # what is cut lies on other axes
        if all((np.diff(p) == 1).all() for p in places.values()) and self._is_modern():
            self._set_bounds(graph, places)
        else:
            self._gather(graph, places)

    def _set_bounds(self, graph: ir.Graph, places: dict[int, Index]) -> None:
        bounds = self._bounds()
        for place, axis in enumerate(bounds["axes"]):
            if axis in places:
                bounds["starts"][place] = int(places[axis][0])
                bounds["ends"][place] = int(places[axis][-1]) + 1
                bounds["steps"][place] = 1
        self.node.resize_inputs(5)
        for slot, name in enumerate(("starts", "ends", "axes", "steps"), 1):
            self.node.replace_input_with(slot, self._list(graph, name, bounds[name]))

    def _gather(self, graph: ir.Graph, places: dict[int, Index]) -> None:
        """One Gather an axis, behind a Slice of the axes that stay whole."""
        value, nodes = self.x, []
        rest = [place for place, axis in enumerate(self._axes() or []) if axis not in places]
        if rest:
            bounds = {name: [numbers[k] for k in rest] for name, numbers in self._bounds().items()}
            names = ["starts", "ends", "axes", "steps"] if self._is_modern() else []
            inputs = [value, *(self._list(graph, name, bounds[name]) for name in names)]
            del bounds["steps"]
            nodes.append(ir.node("Slice", inputs, {} if names else bounds))
            nodes[-1].version = self.node.version
        for axis, index in places.items():
            value = nodes[-1].outputs[0] if nodes else value
            order = add_initializer(graph, f"{self.y.name}.order{axis}", index.astype(np.int64))
            nodes.append(ir.node("Gather", [value, order], {"axis": axis}))
        for place, node in enumerate(nodes[:-1]):
            node.outputs[0].name = free_name(graph, f"{self.y.name}.part{place}")
            node.outputs[0].type = self.y.type
        replace_nodes([self.node], nodes, [self.y], [nodes[-1].outputs[0]])

    def _bounds(self) -> dict[str, list[int]]:
        """All numbers, an axis each; only where windows are known, and with them the numbers."""
        axes = self._axes() or []
        steps = self._numbers(4) or [1] * len(axes)
        starts, ends = self._numbers(1) or [], self._numbers(2) or []
        return {"starts": starts, "ends": ends, "axes": axes, "steps": steps}

    def _list(self, graph: ir.Graph, name: str, numbers: list[int]) -> ir.Value:
        return add_initializer(graph, f"{self.y.name}.{name}", np.array(numbers, np.int64))

    def _is_modern(self) -> bool:
        return "starts" not in self.node.attributes

    def _axes(self) -> list[int] | None:
        ndim = rank(self.x) or 1
        if not self._is_modern():
            starts = ints(self.node, "starts", [])
            return [axis % ndim for axis in ints(self.node, "axes", list(range(len(starts))))]
        if input_of(self.node, 3) is not None:
            axes = constant_ints(self.node, 3)
        else:
            begins = input_of(self.node, 1)
            count = axis_size(begins, 0) if begins is not None else None
            axes = None if count is None else list(range(count))
        return None if axes is None else [axis % ndim for axis in axes]

    def _numbers(self, place: int) -> list[int] | None:
        if not self._is_modern():
            name = {1: "starts", 2: "ends"}.get(place)
            return ints(self.node, name, []) if name else None
        return constant_ints(self.node, place)
