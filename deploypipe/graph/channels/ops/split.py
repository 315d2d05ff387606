"""Split: every output is a window of the input along one axis."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Tie, axis_size, rank
from deploypipe.graph.channels.rule import (
    Joint,
    Kept,
    Rule,
    Values,
    every_axis,
    integer,
    replace_nodes,
)
from deploypipe.graph.constants import add_initializer


class Split(Rule):
    """Equal or given parts; what stays is always written out as given parts."""

    ops: ClassVar[frozenset[str]] = frozenset({"Split"})
    outputs: ClassVar[int | None] = None

    @property
    def axis(self) -> int:
        return integer(self.node, "axis", 0) % (rank(self.x) or 1)

    def refusal(self) -> str | None:
        sizes = [axis_size(out, self.axis) for out in self.node.outputs]
        if None in sizes or sum(size or 0 for size in sizes) != axis_size(self.x, self.axis):
            return "has parts of unknown size"
        return None

    def ties(self) -> Iterable[Tie | None]:
        offset = 0
        for out in self.node.outputs:
            size = axis_size(out, self.axis) or 0
            places = np.arange(size)
            yield Tie((self.x, self.axis), (out, self.axis), places + offset, places)
            yield from every_axis(self.x, out, skip=self.axis)
            offset += size

    def values(self, known: Values) -> None:
        super().values(known)
        given, offset = known.joint.get(self.x), 0
        if given is None:
            return
        for out in self.node.outputs:
            size, array = axis_size(out, self.axis) or 0, given.array
            if self.axis in given.axes:
                window = np.arange(offset, offset + size)
                array = array.take(window, given.axes.index(self.axis))
            known.set_joint(out, Joint(given.axes, array))
            offset += size

    def rewrite(self, kept: Kept) -> None:
        """A new node with the sizes that are left, without the outputs that became empty."""
        graph = self.node.graph
        assert isinstance(graph, ir.Graph)
        stay = [out for out in self.node.outputs if not kept.empty(out)]
        sizes = np.array([kept.count(out, self.axis) for out in stay], np.int64)
        attributes: dict[str, object] = {"axis": self.axis}
        inputs = [self.x]
        if (self.node.version or graph.opset_imports.get("", 21)) < 13:
            attributes["split"] = sizes.tolist()
        else:
            inputs.append(add_initializer(graph, f"{self.node.name or self.x.name}.sizes", sizes))
        new = ir.node("Split", inputs, attributes, num_outputs=len(stay), name=self.node.name)  # type: ignore[arg-type]
        new.version = self.node.version
        replace_nodes([self.node], [new], stay, list(new.outputs))
