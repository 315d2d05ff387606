"""Channel shuffle: Reshape, Transpose, Reshape that only put the cells of one axis in another order.

    [N, a*b, H, W] -> [N, a, b, H, W] -> [N, b, a, H, W] -> [N, b*a, H, W]

The three are taken as one node that moves single cells, so that any set of them can go.  Where some
do, one Gather takes the place of the three.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Index, Tie, axis_size, rank
from deploypipe.graph.channels.rule import Kept, Rule, every_axis, ints, replace_nodes
from deploypipe.graph.constants import add_initializer, constant_of, input_of


class Shuffle(Rule):
    """y's index k along ``axis`` is x's index ``order[k]``."""

    def __init__(self, first: ir.Node, middle: ir.Node, last: ir.Node, axis: int, order: Index):
        super().__init__(last)
        self.first, self.middle, self.last = first, middle, last
        self.axis, self.order = axis, order

    @property
    def x(self) -> ir.Value:
        value = self.first.inputs[0]
        assert value is not None
        return value

    @property
    def inputs(self) -> tuple[ir.Value, ...]:
        """What the three nodes read from outside."""
        return (self.x,)

    @property
    def inside(self) -> tuple[ir.Node, ir.Node]:
        """The nodes whose outputs nobody else sees."""
        return self.first, self.middle

    def ties(self) -> Iterable[Tie | None]:
        yield from every_axis(self.x, self.y, skip=self.axis)
        places = np.arange(len(self.order))
        yield Tie((self.x, self.axis), (self.y, self.axis), self.order, places)

    def rewrite(self, kept: Kept) -> None:
        """One Gather takes the place of the three nodes."""
        graph = self.last.graph
        assert isinstance(graph, ir.Graph)
        stay = kept.index(self.y, self.axis)
        index = kept.places(self.x, self.axis)[self.order[stay]]
        places = add_initializer(graph, f"{self.y.name}.order", index.astype(np.int64))
        gather = ir.node("Gather", [self.x, places], {"axis": self.axis}, name=self.last.name)
        old = [self.first, self.middle, self.last]
        replace_nodes(old, [gather], [self.y], list(gather.outputs))


def find_shuffles(graph: ir.Graph) -> Iterator[Shuffle]:
    """All shuffles of a graph with inferred shapes."""
    for node in graph:
        if node.op_type == "Transpose" and node.domain in ("", "ai.onnx"):
            shuffle = _shuffle_around(node)
            if shuffle is not None:
                yield shuffle


def _shuffle_around(middle: ir.Node) -> Shuffle | None:
    split, after = middle.inputs[0], middle.outputs[0]
    first = split.producer() if split is not None else None
    if first is None or first.op_type != "Reshape" or not _private(split) or not _private(after):
        return None
    last = next(iter(after.uses())).node
    if last.op_type != "Reshape" or last.inputs[0] is not after:
        return None
    x, y = first.inputs[0], last.outputs[0]
    if x is None or rank(x) != rank(y) or constant_of(input_of(first, 1)) is None:
        return None
    return _composed(first, middle, last)


def _private(value: ir.Value | None) -> bool:
    return value is not None and len(value.uses()) == 1 and not value.is_graph_output()


def _composed(first: ir.Node, middle: ir.Node, last: ir.Node) -> Shuffle | None:
    """The order of cells, if the split and the merge are of the same single axis."""
    x, split, y = first.inputs[0], middle.inputs[0], last.outputs[0]
    assert x is not None
    assert split is not None
    extra = (rank(split) or 0) - (rank(x) or 0)
    order = ints(middle, "perm", list(reversed(range(rank(split) or 0))))
    moved = [axis for axis, source in enumerate(order) if axis != source]
    if extra < 1 or len(moved) < 2:
        return None
    start, stop = moved[0], moved[0] + extra + 1
    parts = [axis_size(split, axis) for axis in range(start, stop)]
    whole = axis_size(x, start)
    if moved[-1] >= stop or None in parts or whole is None or whole != axis_size(y, start):
        return None
    if int(np.prod([part or 0 for part in parts])) != whole or not _rest_stays(x, split, y, start):
        return None
    perm = [source - start for source in order[start:stop]]
    cells = np.arange(whole).reshape([part or 0 for part in parts]).transpose(perm).reshape(-1)
    return Shuffle(first, middle, last, start, cells)


def _rest_stays(x: ir.Value, split: ir.Value, y: ir.Value, start: int) -> bool:
    """Whether all other axes pass as they are; at most one of them may be of unknown size."""
    extra = (rank(split) or 0) - (rank(x) or 0)
    unknown = 0
    for axis in range(rank(x) or 0):
        if axis == start:
            continue
        sizes = {axis_size(x, axis), axis_size(split, axis + (extra if axis > start else 0))}
        sizes.add(axis_size(y, axis))
        if len(sizes) > 1:
            return False
        unknown += None in sizes
    return unknown <= 1
