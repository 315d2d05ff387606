"""Transpose: axes change places."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from deploypipe.graph.channels.cells import Tie, rank
from deploypipe.graph.channels.rule import Joint, Rule, Values, ints


class Transpose(Rule):
    """y's axis k is x's axis perm[k]."""

    ops: ClassVar[frozenset[str]] = frozenset({"Transpose"})

    def ties(self) -> Iterable[Tie | None]:
        for axis, source in enumerate(self._order):
            yield Tie.same((self.x, source), (self.y, axis))

    def joint(self, known: Values) -> Joint | None:
        given = known.jointly(self.x)
        places = {source: axis for axis, source in enumerate(self._order)}
        return None if given is None else given.moved(places)

    @property
    def _order(self) -> list[int]:
        return ints(self.node, "perm", list(reversed(range(rank(self.x) or 0))))
