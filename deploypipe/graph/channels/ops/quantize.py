"""QuantizeLinear and DequantizeLinear: a code for every number, channel by channel or for all.

A weight is zero where its code is the zero point; a constant becomes a code and a number again by
running the op.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from deploypipe.graph.channels.cells import Tie, axis_size, rank
from deploypipe.graph.channels.rule import LIVE, Rule, Values, every_axis, integer
from deploypipe.graph.channels.running import run_on
from deploypipe.graph.constants import constant_of, is_constant


class Quantize(Rule):
    """To codes and back, with constant scales."""

    ops: ClassVar[frozenset[str]] = frozenset({"QuantizeLinear", "DequantizeLinear"})

    def refusal(self) -> str | None:
        if any(not is_constant(v) for v in self.node.inputs[1:] if v is not None):
            return "has scales that are computed"
        return "has scales of blocks" if integer(self.node, "block_size", 0) else None

    def ties(self) -> Iterable[Tie | None]:
        yield from every_axis(self.x, self.y)
        axis = integer(self.node, "axis", 1) % (rank(self.x) or 1)
        for value in self.node.inputs[1:]:
            if value is not None and rank(value) == 1 and axis_size(value, 0) != 1:
                yield Tie.same((value, 0), (self.y, axis))

    def values(self, known: Values) -> None:
        per_tensor = all(
            v is None or (is_constant(v) and constant_of(v).size == 1)  # type: ignore[union-attr]
            for v in self.node.inputs[1:]
        )
        for axis in range(rank(self.y) or 0):
            vector = known.of(self.x, axis)
            fixed = ~np.isnan(vector)
            if len(vector) != axis_size(self.y, axis) or not fixed.any():
                continue
            result = np.full(vector.shape, LIVE)
            if per_tensor:
                result[fixed] = run_on(self.node, vector[fixed])
            known[self.y, axis] = result
