"""Expand and Tile: the axes that are not stretched pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Tie, axis_size
from deploypipe.graph.channels.ops.binary import aligned
from deploypipe.graph.channels.rule import Kept, Rule, constant_ints
from deploypipe.graph.constants import add_initializer


class Expand(Rule):
    """To a constant shape, or by constant repeats."""

    ops: ClassVar[frozenset[str]] = frozenset({"Expand", "Tile"})

    def refusal(self) -> str | None:
        return "has a shape that is computed" if constant_ints(self.node, 1) is None else None

    def ties(self) -> Iterable[Tie | None]:
        for axis, under in aligned(self.x, self.y):
            if axis_size(self.x, under) == axis_size(self.y, axis) != 1:
                yield Tie.same((self.x, under), (self.y, axis))

    def rewrite(self, kept: Kept) -> None:
        """A size of one asks Expand for the size that is there; Tile asks for repeats anyway."""
        numbers, graph = constant_ints(self.node, 1), self.node.graph
        if self.node.op_type == "Tile" or numbers is None:
            return
        assert isinstance(graph, ir.Graph)
        start = len(self.y.shape or ()) - len(numbers)
        sizes = [
            1 if (self.y, start + place) in kept.removed else number
            for place, number in enumerate(numbers)
        ]
        new = add_initializer(graph, f"{self.y.name}.shape", np.array(sizes, np.int64))
        self.node.replace_input_with(1, new)
