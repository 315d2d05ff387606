"""Gather with constant indices along an axis; the table's other axes pass in any case."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Tie, axis_size, rank
from deploypipe.graph.channels.rule import Joint, Kept, Rule, Values, integer
from deploypipe.graph.constants import add_initializer, constant_of


class Gather(Rule):
    """y[..., k, ...] = x[..., indices[k], ...]."""

    ops: ClassVar[frozenset[str]] = frozenset({"Gather"})

    @property
    def axis(self) -> int:
        return integer(self.node, "axis", 0) % (rank(self.x) or 1)

    def refusal(self) -> str | None:
        return "has indices of unknown rank" if self._ndim() is None else None

    def ties(self) -> Iterable[Tie | None]:
        extra = (self._ndim() or 0) - 1
        for axis in range(rank(self.x) or 0):
            if axis != self.axis:
                after = axis if axis < self.axis else axis + extra
                yield Tie.same((self.x, axis), (self.y, after))
        order = self._order()
        if order is not None:
            yield Tie((self.x, self.axis), (self.y, self.axis), order, np.arange(len(order)))

    def joint(self, known: Values) -> Joint | None:
        """One index, or a list of them, of what is known along several axes."""
        given, index = known.jointly(self.x), constant_of(self.node.inputs[1])
        if given is None or index is None or index.ndim > 1:
            return None
        array = given.array
        places = {axis: axis for axis in range(rank(self.x) or 0)}
        if index.ndim == 0:
            places = {k: k - (k > self.axis) for k in places if k != self.axis}
        if self.axis in given.axes:
            array = array.take(index, given.axes.index(self.axis))
        axes = [axis for axis in given.axes if axis in places]
        return Joint(tuple(places[axis] for axis in axes), array) if axes else None

    def rewrite(self, kept: Kept) -> None:
        order, graph = self._order(), self.node.graph
        assert isinstance(graph, ir.Graph)
        if order is not None:
            stay = kept.index(self.y, self.axis)
            index = kept.places(self.x, self.axis)[order[stay]].astype(np.int64)
            self.node.replace_input_with(1, add_initializer(graph, f"{self.y.name}.order", index))

    def _ndim(self) -> int | None:
        indices = self.node.inputs[1]
        return None if indices is None else rank(indices)

    def _order(self) -> np.ndarray | None:
        """The indices, counted from the front, if they are a constant list."""
        indices, size = constant_of(self.node.inputs[1]), axis_size(self.x, self.axis)
        if indices is None or indices.ndim != 1 or size is None:
            return None
        return np.asarray(indices % size)
