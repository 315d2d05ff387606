"""Slice: the axes that are not cut pass as they are; a cut axis stays whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import onnx_ir as ir

from deploypipe.graph.channels.cells import Tie, rank
from deploypipe.graph.channels.rule import Rule
from deploypipe.graph.constants import constant_of


class Slice(Rule):
    """A strided window of a tensor."""

    ops: ClassVar[frozenset[str]] = frozenset({"Slice"})

    def ties(self, node: ir.Node) -> Iterable[Tie | None]:
        x, y = node.inputs[0], node.outputs[0]
        cut = _cut_axes(node)
        if x is None or cut is None:
            return
        for axis in range(rank(x) or 0):
            if axis not in cut:
                yield Tie.same((x, axis), (y, axis))


def _cut_axes(node: ir.Node) -> set[int] | None:
    x = node.inputs[0]
    if x is None or rank(x) is None or len(node.inputs) < 3:
        return None
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        axes = constant_of(node.inputs[3])
    else:
        starts = constant_of(node.inputs[1])
        axes = None if starts is None else list(range(len(starts)))  # type: ignore[assignment]
    return None if axes is None else {int(axis) % (rank(x) or 1) for axis in axes}
