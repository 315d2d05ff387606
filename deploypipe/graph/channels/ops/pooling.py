"""Pooling: channels pass untouched.

A constant survives where every window sees it alone: in MaxPool, whose padding is minus infinity,
and in an AveragePool that does not count its padding.  Zero survives anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from deploypipe.graph.channels.cells import Tie
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
        if not self._keeps_constants():
            vector = known.of(self.y, 1)
            known[self.y, 1] = np.where(vector == 0, 0.0, LIVE)

    def _keeps_constants(self) -> bool:
        op = self.node.op_type
        if op in ("MaxPool", "GlobalMaxPool", "GlobalAveragePool"):
            return True
        padded = any(ints(self.node, "pads", [])) or self._is_padded_to_size()
        diluted = padded and integer(self.node, "count_include_pad", 0)
        return op == "AveragePool" and not diluted and not integer(self.node, "ceil_mode", 0)

    def _is_padded_to_size(self) -> bool:
        return (self.node.attributes.get_string("auto_pad", "") or "").startswith("SAME")
