"""Reductions: the axes that are left pass; a zero channel may go from those that are summed over."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from deploypipe.graph.channels.cells import Axis, Tie, axis_size, rank
from deploypipe.graph.channels.rule import (
    LIVE,
    Absorb,
    Needs,
    Rule,
    Sink,
    Values,
    constant_ints,
    integer,
    ints,
)
from deploypipe.graph.constants import input_of

_SUMS = frozenset({"ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare"})
_KEEP = frozenset({"ReduceMean", "ReduceMax", "ReduceMin"})


class Reduce(Rule):
    """Constant axes, in the attribute or as an input."""

    ops: ClassVar[frozenset[str]] = _SUMS | _KEEP

    def refusal(self) -> str | None:
        return None if self._gone() else "reduces axes that the engine cannot tell"

    def ties(self) -> Iterable[Tie | None]:
        for axis, after in self._left():
            yield Tie.same((self.x, axis), (self.y, after))

    def sinks(self) -> Iterable[Sink]:
        for axis in self._summed():
            size = axis_size(*axis) or 0
            yield Sink(axis, Absorb.NOT, np.ones(size, bool), np.zeros(size, np.int64))

    def values(self, known: Values) -> None:
        super().values(known)
        for _, after in self._left():
            vector = known.of(self.y, after)
            if self.node.op_type not in _KEEP:
                known[self.y, after] = np.where(vector == 0, 0.0, LIVE)

    def demand(self, needs: Needs, known: Values) -> None:
        super().demand(needs, known)
        left = [after for _, after in self._left() if axis_size(self.y, after) is not None]
        # Where no size of the result is known, somebody may need it all.
        wanted = not left or any(needs.of(self.y, after).any() for after in left)
        for axis in self._summed():
            needs.add(*axis, np.full(axis_size(*axis) or 0, wanted))

    def _summed(self) -> list[Axis]:
        """The axes that vanish and of which zeros may go."""
        if self.node.op_type not in _SUMS:
            return []
        return [(self.x, axis) for axis in self._gone() if axis_size(self.x, axis) is not None]

    def _gone(self) -> list[int]:
        axes = ints(self.node, "axes", [])
        if input_of(self.node, 1) is not None:
            axes = constant_ints(self.node, 1) or []
        return sorted({axis % (rank(self.x) or 1) for axis in axes})

    def _left(self) -> Iterable[tuple[int, int]]:
        """Pairs (axis of x, axis of y) of the axes that stay."""
        keep = integer(self.node, "keepdims", 1)
        stay = [axis for axis in range(rank(self.x) or 0) if axis not in self._gone()]
        return [(axis, axis if keep else place) for place, axis in enumerate(stay)]
