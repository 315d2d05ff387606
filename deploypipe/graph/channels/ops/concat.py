"""Concat: index = offset + i along the axis, the same index elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Tie, axis_size, rank
from deploypipe.graph.channels.rule import LIVE, Rule, Values, every_axis, integer


class Concat(Rule):
    """Tensors side by side."""

    ops: ClassVar[frozenset[str]] = frozenset({"Concat"})

    def ties(self, node: ir.Node) -> Iterable[Tie | None]:
        y = node.outputs[0]
        axis = _axis(node)
        sizes = [None if x is None else axis_size(x, axis) for x in node.inputs]
        if any(size is None for size in sizes):
            return
        offset = 0
        for x, size in zip(node.inputs, sizes, strict=True):
            assert x is not None
            assert size is not None
            yield Tie((x, axis), (y, axis), np.arange(size), np.arange(size) + offset)
            yield from every_axis(x, y, skip=axis)
            offset += size

    def values(self, node: ir.Node, known: Values) -> None:
        """Side by side along the axis; elsewhere only what all the inputs agree on."""
        y = node.outputs[0]
        for axis in range(rank(y) or 0):
            parts = [known.of(x, axis) for x in node.inputs]
            if axis == _axis(node):
                known[y, axis] = np.concatenate(parts)
            elif len({len(part) for part in parts}) == 1:
                agree = np.all([part == parts[0] for part in parts], axis=0)
                known[y, axis] = np.where(agree, parts[0], LIVE)


def _axis(node: ir.Node) -> int:
    return integer(node, "axis", 0) % (rank(node.outputs[0]) or 1)
