"""Flatten, Reshape, Squeeze and Unsqueeze, where an axis keeps its meaning.

    [N, C, H, W] -> [N, C*H*W]:  channel c is the block of columns c*H*W ... (c+1)*H*W - 1

Axes before the merged ones, and axes that only lose or gain a neighbour of size one, pass as they
are.  Anything else (splitting C into heads, say) is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Tie, axis_size, rank
from deploypipe.graph.channels.rule import Kept, Rule, constant


class Reshape(Rule):
    """Shape changes that merge trailing axes or insert and drop axes of size one."""

    ops: ClassVar[frozenset[str]] = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})

    def ties(self, node: ir.Node) -> Iterable[Tie | None]:
        x, y = node.inputs[0], node.outputs[0]
        if x is None or rank(x) is None or rank(y) is None:
            return
        before = [axis_size(x, axis) for axis in range(rank(x) or 0)]
        after = [axis_size(y, axis) for axis in range(rank(y) or 0)]
        for i, j, block in _blocks(before, after):
            size = before[i]
            assert size is not None
            yield Tie((x, i), (y, j), np.repeat(np.arange(size), block), np.arange(size * block))

    def rewrite(self, node: ir.Node, kept: Kept) -> None:
        """Write the new sizes into a Reshape's shape constant."""
        if node.op_type != "Reshape" or node.inputs[1] is None:
            return
        shape, y = constant(node.inputs[1]), node.outputs[0]
        if shape is None:
            return
        sizes = [
            kept.count(y, axis) if (y, axis) in kept.removed and want > 0 else int(want)
            for axis, want in enumerate(shape)
        ]
        if sizes != [int(want) for want in shape]:
            name = f"{node.inputs[1].name}.{node.name or y.name}"
            new = ir.Value(name=name, const_value=ir.tensor(np.array(sizes, np.int64), name=name))
            assert node.graph is not None
            node.graph.register_initializer(new)  # type: ignore[union-attr]
            node.replace_input_with(1, new)


def _blocks(before: list[int | None], after: list[int | None]) -> Iterable[tuple[int, int, int]]:
    """Triples (axis before, axis after, block): the index i becomes i*block ... i*block+block-1."""
    i = j = 0
    while i < len(before) and j < len(after):
        if before[i] == after[j] and (before[i] is not None or i == j == 0):
            if before[i] is not None:
                yield i, j, 1
            i, j = i + 1, j + 1
        elif before[i] == 1:
            i += 1
        elif after[j] == 1:
            j += 1
        else:
            yield from _merged(before, after, i, j)
            return


def _merged(
    before: list[int | None], after: list[int | None], i: int, j: int
) -> Iterable[tuple[int, int, int]]:
    """All axes from i on become the one axis j."""
    rest = before[i:]
    if j != len(after) - 1 or any(size is None for size in rest):
        return
    block = int(np.prod([size for size in rest[1:] if size is not None], dtype=np.int64))
    if before[i] * block == after[j]:  # type: ignore[operator]
        yield i, j, block
