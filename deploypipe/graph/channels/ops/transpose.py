"""Transpose: axes change places."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from deploypipe.graph.channels.cells import Tie, rank
from deploypipe.graph.channels.rule import Rule, ints


class Transpose(Rule):
    """y's axis k is x's axis perm[k]."""

    ops: ClassVar[frozenset[str]] = frozenset({"Transpose"})

    def ties(self) -> Iterable[Tie | None]:
        order = ints(self.node, "perm", list(reversed(range(rank(self.x) or 0))))
        for axis, source in enumerate(order):
            yield Tie.same((self.x, source), (self.y, axis))
