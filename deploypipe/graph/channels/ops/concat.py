"""Concat: index = offset + i along the axis, the same index elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Tie, axis_size, rank
from deploypipe.graph.channels.rule import Rule, every_axis, integer


class Concat(Rule):
    """Tensors side by side."""

    ops: ClassVar[frozenset[str]] = frozenset({"Concat"})

    def ties(self, node: ir.Node) -> Iterable[Tie | None]:
        y = node.outputs[0]
        if rank(y) is None:
            return
        axis = integer(node, "axis", 0) % (rank(y) or 1)
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
