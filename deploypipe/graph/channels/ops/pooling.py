"""Pooling: channels pass untouched.

A constant survives where every window sees it alone: in MaxPool, whose padding is minus infinity,
and in an AveragePool that does not count its padding.  One that does makes of all constants
multiples of one pattern.  Zero survives anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from deploypipe.graph.channels.cells import Tie, axis_size
from deploypipe.graph.channels.rule import LIVE, Rule, Values, integer, ints


class Pooling(Rule):
    """Windows over the axes behind the channels."""

    ops: ClassVar[frozenset[str]] = frozenset(
        ["MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"]
    )

    def ties(self) -> Iterable[Tie | None]:
        yield Tie.same((self.x, 1), (self.y, 1))

    def values(self, known: Values) -> None:
        super().values(known)
        if self._sees_nothing():
            known[self.y, 1] = np.full(axis_size(self.y, 1) or 0, LIVE)
        if self._keeps_constants():
            return
        if self.node.op_type != "AveragePool":
            vector = known.of(self.y, 1)
            known[self.y, 1] = np.where(vector == 0, 0.0, LIVE)
        elif (np.nan_to_num(known.of(self.y, 1)) != 0).any():
            known.patterns.add(self.y)  # the border is diluted alike in every channel

    def _sees_nothing(self) -> bool:
        """Whether a window may hold padding alone: its taps lie apart, around the image."""
        spread = any(step > 1 for step in ints(self.node, "dilations", []))
        return spread and (any(ints(self.node, "pads", [])) or self._is_padded_to_size())

    def _keeps_constants(self) -> bool:
        op = self.node.op_type
        if op in ("MaxPool", "GlobalMaxPool", "GlobalAveragePool"):
            return True
        padded = any(ints(self.node, "pads", [])) or self._is_padded_to_size()
        diluted = padded and integer(self.node, "count_include_pad", 0)
        return op == "AveragePool" and not diluted and not integer(self.node, "ceil_mode", 0)

    def _is_padded_to_size(self) -> bool:
        return (self.node.attributes.get_string("auto_pad", "") or "").startswith("SAME")
