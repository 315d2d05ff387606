"""Attention as one op: softmax(scale * q k^T) v, with heads on an axis of their own.

    q [batch, heads, n, d]    k [batch, heads, m, d]    v [batch, heads, m, e]    y [batch, heads, n, e]

Heads go together.  Of the dimensions that queries and keys are compared in, one that is zero on one
side goes from both, and the scale, which would follow from their number, is written down.  Rows of
a softmax add up to one, so a constant column of the values is a constant column of ``y``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Tie, axis_size, rank
from deploypipe.graph.channels.rule import LIVE, Absorb, Kept, Needs, Rule, Sink, Values
from deploypipe.graph.constants import input_of

_HEAD, _DEPTH = 1, 3


class Attention(Rule):
    """Without a cache; where keys have fewer heads than queries, heads stay."""

    ops: ClassVar[frozenset[str]] = frozenset({"Attention"})

    def refusal(self) -> str | None:
        if any(input_of(self.node, place) is not None for place in range(4, len(self.node.inputs))):
            return "has a cache"
        if any(value is None or rank(value) != 4 for value in (*self._three, self.y)):
            return "has its heads inside of another axis"
        if axis_size(self._three[0], _DEPTH) != axis_size(self._three[1], _DEPTH):
            return "has queries and keys of unknown size"
        return None

    @property
    def _three(self) -> tuple[ir.Value, ir.Value, ir.Value]:
        q, k, v = self.node.inputs[:3]
        assert q is not None and k is not None and v is not None  # noqa: PT018
        return q, k, v

    def ties(self) -> Iterable[Tie | None]:
        q, k, v = self._three
        yield Tie.same((q, _DEPTH), (k, _DEPTH))
        yield Tie.same((v, _DEPTH), (self.y, _DEPTH))
        if self._heads_pass():
            for value in (q, k, v):
                yield Tie.same((value, _HEAD), (self.y, _HEAD))

    def sinks(self) -> Iterable[Sink]:
        for value in self._three[:2]:
            size = axis_size(value, _DEPTH)
            if size is not None:
                yield Sink(
                    (value, _DEPTH), Absorb.NOT, np.ones(size, bool), np.zeros(size, np.int64)
                )

    def values(self, known: Values) -> None:
        v = self._three[2]
        for axis in (_HEAD, _DEPTH):
            if axis == _HEAD and not self._heads_pass():
                continue
            given = known.of(v, axis)
            if len(given) == axis_size(self.y, axis):
                # A row of which everything is masked is no average.
                masked = input_of(self.node, 3) is not None
                known[self.y, axis] = np.where(given == 0, 0.0, LIVE) if masked else given

    def demand(self, needs: Needs, known: Values) -> None:
        q, k, v = self._three
        needs.add(v, _DEPTH, needs.of(self.y, _DEPTH))
        zero, other = known.of(q, _DEPTH) == 0, known.of(k, _DEPTH) == 0
        # Of two zeros one must be kept in order: the first.
        needs.add(q, _DEPTH, zero | ~other)
        needs.add(k, _DEPTH, ~zero)
        for value in (q, k, v) if self._heads_pass() else ():
            needs.add(value, _HEAD, needs.of(self.y, _HEAD))

    def rewrite(self, kept: Kept) -> None:
        """The scale stays that of all dimensions."""
        depth = axis_size(self._three[0], _DEPTH)
        if depth and "scale" not in self.node.attributes:
            self.node.attributes["scale"] = ir.AttrFloat32("scale", 1 / math.sqrt(depth))

    def _heads_pass(self) -> bool:
        """Whether head i of all three is head i of the output, and no mask tells heads apart."""
        sizes = {axis_size(value, _HEAD) for value in (*self._three, self.y)}
        mask = input_of(self.node, 3)
        dims = rank(mask) if mask is not None else 2
        alike = dims == 2 or (mask is not None and dims and axis_size(mask, dims - 3) == 1)
        return len(sizes) == 1 and None not in sizes and bool(alike)
