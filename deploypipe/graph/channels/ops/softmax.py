"""Softmax and its kin: nothing goes on their axis, where exp(0) = 1 stays in the sum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from deploypipe.graph.channels.cells import Tie, rank
from deploypipe.graph.channels.rule import Rule, Values, every_axis, integer, opset_of


class Softmax(Rule):
    """The other axes pass; nothing is called constant behind it."""

    ops: ClassVar[frozenset[str]] = frozenset({"Softmax", "LogSoftmax"})

    def refusal(self) -> str | None:
        return "flattens its axes, as before opset 13" if opset_of(self.node) < 13 else None

    def ties(self) -> Iterable[Tie | None]:
        axis = integer(self.node, "axis", -1) % (rank(self.x) or 1)
        return every_axis(self.x, self.y, skip=axis)

    def values(self, known: Values) -> None:
        pass
