"""Concat: index = offset + i along the axis, the same index elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Tie, axis_size, rank
from deploypipe.graph.channels.rule import Kept, Rule, every_axis, integer


class Concat(Rule):
    """Tensors side by side."""

    ops: ClassVar[frozenset[str]] = frozenset({"Concat"})

    @property
    def axis(self) -> int:
        return integer(self.node, "axis", 0) % (rank(self.y) or 1)

    def refusal(self) -> str | None:
        unknown = any(axis_size(x, self.axis) is None for x in self.node.inputs if x is not None)
        return "has an input of unknown size" if unknown or None in self.node.inputs else None

    def ties(self) -> Iterable[Tie | None]:
        offset = 0
        for x in self.node.inputs:
            assert x is not None
            size = axis_size(x, self.axis) or 0
            places = np.arange(size)
            yield Tie((x, self.axis), (self.y, self.axis), places, places + offset)
            yield from (tie for tie in every_axis(x, self.y, self.axis) if self._whole(tie))
            offset += size

    def _whole(self, tie: Tie | None) -> bool:
        """Whether all parts' sizes along an axis are known, so that it can be cut in all."""
        return tie is not None and all(axis_size(x, tie.left[1]) for x in self.node.inputs if x)

    def drops(self, value: ir.Value) -> bool:
        return True

    def rewrite(self, kept: Kept) -> None:
        """Inputs that became empty are left out."""
        stay = [x for x in self.node.inputs if x is not None and not kept.empty(x)]
        if len(stay) < len(self.node.inputs):
            self.node.resize_inputs(len(stay))
            for place, x in enumerate(stay):
                self.node.replace_input_with(place, x)
