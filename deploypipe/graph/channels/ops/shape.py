"""Shape: it reads the sizes that somebody asks it for, and no others.

Whoever takes a size as a number would see it change, so the axes that are asked for stay whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Axis, axis_size, rank
from deploypipe.graph.channels.rule import Absorb, Needs, Rule, Sink, Values, constant_ints, integer


class Shape(Rule):
    """Its axes of no interest are neither tied nor needed."""

    ops: ClassVar[frozenset[str]] = frozenset({"Shape"})

    def sinks(self) -> Iterable[Sink]:
        """Reading nothing: the axes that nobody asks for."""
        asked = self._asked()
        for axis in range(rank(self.x) or 0):
            if axis not in asked:
                size = axis_size(self.x, axis) or 0
                place: Axis = (self.x, axis)
                yield Sink(place, Absorb.NOT, np.zeros(size, bool), np.zeros(size, np.int64))

    def values(self, known: Values) -> None:
        pass

    def demand(self, needs: Needs, known: Values) -> None:
        pass

    def _asked(self) -> set[int]:
        ndim = rank(self.x) or 0
        start = integer(self.node, "start", 0)
        end = integer(self.node, "end", ndim)
        axes = list(range(ndim))[slice(start, end)]
        if self.y.is_graph_output():
            return set(axes)
        return {axis for use in self.y.uses() for axis in _picked(use.node, axes)}


def _picked(node: ir.Node, axes: list[int]) -> list[int]:
    """Which of the sizes a reader of the shape looks at."""
    if node.op_type == "Gather" and integer(node, "axis", 0) == 0:
        index = constant_ints(node, 1)
        return axes if index is None else [axes[k] for k in index]
    if node.op_type == "Slice":
        starts, ends, steps = (constant_ints(node, place) for place in (1, 2, 4))
        if starts is not None and ends is not None:
            return axes[slice(starts[0], ends[0], steps[0] if steps else 1)]
    return axes
