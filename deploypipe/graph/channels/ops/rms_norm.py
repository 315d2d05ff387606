"""RMS norm: y = x / sqrt(sum(x * x) / N + eps) * scale.

A zero channel adds nothing to the sum, so K of N channels give the same with eps * N / K under the
root and scale * sqrt(N / K) before it: exact, unlike in a layer norm, which has a mean to take off.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Tie, axis_size, rank
from deploypipe.graph.channels.linear import set_array
from deploypipe.graph.channels.rule import (
    LIVE,
    Absorb,
    Kept,
    Needs,
    Rule,
    Sink,
    Values,
    every_axis,
    integer,
)
from deploypipe.graph.constants import constant_of, is_constant


class RmsNorm(Rule):
    """Over the last axis, with a constant scale of its own."""

    ops: ClassVar[frozenset[str]] = frozenset(
        {"RMSNormalization", "SimplifiedLayerNormalization"}
        | {"com.microsoft.SimplifiedLayerNormalization"}
    )

    def refusal(self) -> str | None:
        scale = self.node.inputs[1]
        if integer(self.node, "axis", -1) not in (-1, (rank(self.x) or 0) - 1):
            return "normalizes several axes"
        if axis_size(self.x, self._last) is None:
            return "has an unknown number of channels"
        if not is_constant(scale) or scale is None or len(scale.uses()) > 1:
            return "has a scale that is computed or shared"
        return None

    @property
    def _scale(self) -> ir.Value:
        value = self.node.inputs[1]
        assert value is not None
        return value

    @property
    def _last(self) -> int:
        return (rank(self.x) or 1) - 1

    def ties(self) -> Iterable[Tie | None]:
        yield from every_axis(self.x, self.y)
        if rank(self._scale):
            yield Tie.same((self._scale, (rank(self._scale) or 1) - 1), (self.y, self._last))

    def sinks(self) -> Iterable[Sink]:
        size = axis_size(self.x, self._last) or 0
        axis = (self.x, self._last)
        yield Sink(axis, Absorb.NOT, np.ones(size, bool), np.zeros(size, np.int64))

    def values(self, known: Values) -> None:
        scale = known.of(self._scale, max((rank(self._scale) or 1) - 1, 0))
        zero = (scale == 0) | (known.of(self.x, self._last) == 0)
        known[self.y, self._last] = np.where(zero, 0.0, LIVE)

    def demand(self, needs: Needs, known: Values) -> None:
        super().demand(needs, known)
        size = axis_size(self.x, self._last) or 0
        wanted = needs.of(self.y, self._last).any()
        needs.add(self.x, self._last, np.full(size, wanted))

    def rewrite(self, kept: Kept) -> None:
        array = constant_of(self._scale)
        assert array is not None  # refusal() saw to it
        size, left = axis_size(self.x, self._last) or 0, kept.count(self.x, self._last)
        epsilon = self.node.attributes.get_float("epsilon", 1e-5)
        self.node.attributes["epsilon"] = ir.AttrFloat32("epsilon", epsilon * size / left)
        set_array(self._scale, (array * np.sqrt(size / left)).astype(array.dtype))
