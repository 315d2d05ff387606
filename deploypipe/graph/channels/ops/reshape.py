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
from deploypipe.graph.channels.rule import Kept, Rule
from deploypipe.graph.constants import add_initializer, constant_of, input_of

_Block = tuple[int, int, int]
"""(axis before, axis after, block): the index i becomes i*block ... i*block+block-1."""


class Reshape(Rule):
    """Shape changes that merge trailing axes or insert and drop axes of size one."""

    ops: ClassVar[frozenset[str]] = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})

    def ties(self, node: ir.Node) -> Iterable[Tie | None]:
        x, y = node.inputs[0], node.outputs[0]
        if x is None or not _rewritable(node):
            return
        before = [axis_size(x, axis) for axis in range(rank(x) or 0)]
        after = [axis_size(y, axis) for axis in range(rank(y) or 0)]
        blocks, whole = _blocks(before, after)
        if not whole and not _same_first(x, y):
            return  # [N, T, D] -> [N*T, D] begins like [N, C, H] -> [N, C]
        for i, j, block in blocks:
            size = before[i]
            assert size is not None
            yield Tie((x, i), (y, j), np.repeat(np.arange(size), block), np.arange(size * block))

    def rewrite(self, node: ir.Node, kept: Kept) -> None:
        """Write the new sizes into a Reshape's shape constant."""
        if node.op_type != "Reshape" or node.inputs[1] is None:
            return
        shape, y = constant_of(node.inputs[1]), node.outputs[0]
        if shape is None:
            return
        sizes = [
            kept.count(y, axis) if (y, axis) in kept.removed and want > 0 else int(want)
            for axis, want in enumerate(shape)
        ]
        if sizes != [int(want) for want in shape]:
            assert isinstance(node.graph, ir.Graph)
            new = add_initializer(node.graph, f"{y.name}.shape", np.array(sizes, np.int64))
            node.replace_input_with(1, new)


def _rewritable(node: ir.Node) -> bool:
    """Whether other sizes can be asked of the node."""
    if node.op_type == "Reshape":
        return constant_of(input_of(node, 1)) is not None
    # Without axes, Squeeze would also drop a channel axis that came down to one.
    return node.op_type != "Squeeze" or "axes" in node.attributes or input_of(node, 1) is not None


def _same_first(x: ir.Value, y: ir.Value) -> bool:
    """Whether the first dimensions are surely equal."""
    if x.shape is None or y.shape is None or not len(x.shape) or not len(y.shape):
        return False
    first, other = x.shape[0], y.shape[0]
    if isinstance(first, ir.SymbolicDim) and isinstance(other, ir.SymbolicDim):
        return first.value is not None and first.value == other.value
    return isinstance(first, int) and isinstance(other, int)


def _blocks(before: list[int | None], after: list[int | None]) -> tuple[list[_Block], bool]:
    """The blocks, and whether they account for all axes."""
    found: list[_Block] = []
    i = j = 0
    while i < len(before) and j < len(after):
        if before[i] == after[j] and (before[i] is not None or i == j == 0):
            if before[i] is not None:
                found.append((i, j, 1))
            i, j = i + 1, j + 1
        elif before[i] == 1:
            i += 1
        elif after[j] == 1:
            j += 1
        else:
            merged = _merged(before, after, i, j)
            return found + merged, bool(merged)
    return found, set(before[i:] + after[j:]) <= {1}


def _merged(before: list[int | None], after: list[int | None], i: int, j: int) -> list[_Block]:
    """All axes from i on become the one axis j."""
    rest = before[i:]
    if j != len(after) - 1 or any(size is None for size in rest):
        return []
    block = int(np.prod([size for size in rest[1:] if size is not None], dtype=np.int64))
    return [(i, j, block)] if before[i] * block == after[j] else []  # type: ignore[operator]
