"""Flatten, Reshape, Squeeze and Unsqueeze, axis by axis.

    [N, C, H, W] -> [N, C*H*W]:  channel c is the block of columns c*H*W ... (c+1)*H*W - 1
    [N, T, H*D] -> [N, T, H, D]: head h is the block of columns h*D ... (h+1)*D - 1

Axes of size one carry nothing.  Of the others, equal ones at either end pass as they are.  Where
several axes become one, or one several, the cells of one of them can go; which one is a choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from math import prod
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Axis, Tie
from deploypipe.graph.channels.rule import Joint, Kept, Rule, Values, integer
from deploypipe.graph.constants import add_initializer, constant_of, input_of

_Dim = int | str | None


class Reshape(Rule):
    """Changes of shape that the file fixes but for one dimension."""

    ops: ClassVar[frozenset[str]] = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})

    def refusal(self) -> str | None:
        if self.node.op_type == "Reshape" and self._target is None:
            return "has a shape that is computed"
        bare = "axes" not in self.node.attributes and input_of(self.node, 1) is None
        # Without axes, Squeeze would also drop a channel axis that came down to one.
        return "has no axes" if self.node.op_type == "Squeeze" and bare else None

    def ties(self) -> Iterable[Tie | None]:
        pairs, _ = self._matched
        return [Tie.same(left, right) for left, right in pairs]

    def views(self) -> Iterable[Sequence[Tie]]:
        _, segments = self._matched
        found = [_alternatives(before, after) for before, after in segments]
        return [ties for ties in found if ties]

    def joint(self, known: Values) -> Joint | None:
        """Axes that are split or merged keep what is known along them all."""
        given = known.jointly(self.x)
        if given is None:
            return None
        pairs, segments = self._matched
        steps = [([left], [right]) for left, right in pairs] + segments
        array, axes = given.array, list(given.axes)
        for before, after in steps:
            old = [axis for _, axis in before]
            if not set(old) & set(axes):
                continue
            if not set(old) <= set(axes):
                return None
            array = np.moveaxis(array, [axes.index(axis) for axis in old], range(len(old)))
            rest = [axis for axis in axes if axis not in old]
            array = array.reshape([_size([axis]) for axis in after] + list(array.shape[len(old) :]))
            axes = [-1 - axis for _, axis in after] + rest  # below zero: an axis of y
        if any(axis >= 0 for axis in axes):
            return None
        return Joint(tuple(-1 - axis for axis in axes), array)

    def rewrite(self, kept: Kept) -> None:
        """Write the new sizes into a Reshape's shape."""
        target, graph = self._target, self.node.graph
        if target is None:
            return
        assert isinstance(graph, ir.Graph)
        # A copy, 0, may be of an axis other than the one that goes, of the same size by chance.
        sizes = [
            kept.count(self.y, axis) if (self.y, axis) in kept.removed and size >= 0 else size
            for axis, size in enumerate(target)
        ]
        new = add_initializer(graph, f"{self.y.name}.shape", np.array(sizes, np.int64))
        self.node.replace_input_with(1, new)
        self.node.attributes.pop("allowzero", None)  # a 0 here means a copy

    @cached_property
    def _target(self) -> list[int] | None:
        """The sizes that a Reshape can ask for, 0 for a copy and -1 for the rest."""
        if self.node.op_type != "Reshape":
            return None
        given = constant_of(input_of(self.node, 1))
        if given is not None:
            zero = (given == 0).any() and integer(self.node, "allowzero", 0)
            return None if zero else [int(size) for size in given]
        before, after = _dims(self.x), _dims(self.y)
        target: list[int] = []
        for axis, dim in enumerate(after):
            same = axis < len(before) and isinstance(dim, str) and before[axis] == dim
            target.append(dim if isinstance(dim, int) else 0 if same else -1)
        return target if target.count(-1) <= 1 else None

    @cached_property
    def _matched(self) -> tuple[list[tuple[Axis, Axis]], list[tuple[list[Axis], list[Axis]]]]:
        """The axes that pass, and the segments in which axes are merged or split."""
        before = [(self.x, k) for k, dim in enumerate(_dims(self.x)) if dim != 1]
        after = [(self.y, k) for k, dim in enumerate(_dims(self.y)) if dim != 1]
        pairs = []
        while before and after and _same(before[0], after[0]):
            pairs.append((before.pop(0), after.pop(0)))
        while before and after and _same(before[-1], after[-1]):
            pairs.append((before.pop(), after.pop()))
        if _same_by_the_rest(before, after):
            pairs.append((before.pop(0), after.pop(0)))
        return pairs, _segments(before, after)


def _dims(value: ir.Value) -> list[_Dim]:
    if value.shape is None:
        return []
    return [dim if isinstance(dim, int) else dim.value for dim in value.shape]


def _dim(axis: Axis) -> _Dim:
    return _dims(axis[0])[axis[1]]


def _same(left: Axis, right: Axis) -> bool:
    return _dim(left) is not None and _dim(left) == _dim(right)


def _same_by_the_rest(before: list[Axis], after: list[Axis]) -> bool:
    """Whether two first axes of unknown size are equal because all that follows them is."""
    firsts = [_dim(axis) for axis in (*before[:1], *after[:1])]
    if len(firsts) < 2 or any(isinstance(dim, int) for dim in firsts):
        return False
    rest = [*before[1:], *after[1:]]
    known = all(isinstance(_dim(axis), int) for axis in rest)
    return known and _size(before[1:]) == _size(after[1:]) > 0


def _segments(before: list[Axis], after: list[Axis]) -> list[tuple[list[Axis], list[Axis]]]:
    """The smallest runs of axes with equal products, row-major."""
    if any(not isinstance(_dim(axis), int) for axis in (*before, *after)):
        return []
    found = []
    i = j = 0
    while i < len(before) and j < len(after):
        left, right = [before[i]], [after[j]]
        while _size(left) != _size(right):
            if _size(left) < _size(right):
                i += 1
                left.append(before[i])
            else:
                j += 1
                right.append(after[j])
        found.append((left, right))
        i, j = i + 1, j + 1
    return found


def _alternatives(before: list[Axis], after: list[Axis]) -> list[Tie]:
    """One tie for every axis that can carry the cells, the outermost first."""
    if len(before) > 1 and len(after) > 1:
        return _outermost(before[0], after[0])
    whole = np.arange(_size(before))
    if len(after) == 1:
        return [Tie(a, after[0], index, whole) for a, index in _digits(before, whole)]
    return [Tie(before[0], a, whole, index) for a, index in _digits(after, whole)]


def _outermost(before: Axis, after: Axis) -> list[Tie]:
    """The first axes of both sides, where a cell of one is as many whole cells of the other."""
    sizes = _size([before]), _size([after])
    if not all(sizes) or max(sizes) % min(sizes):
        return []
    cells = np.arange(max(sizes))
    return [Tie(before, after, *(cells // (max(sizes) // size) for size in sizes))]


def _digits(axes: list[Axis], whole: np.ndarray) -> list[tuple[Axis, np.ndarray]]:
    """For every axis, its index at each row-major position."""
    return [
        (axis, whole // _size(axes[place + 1 :]) % _size([axis])) for place, axis in enumerate(axes)
    ]


def _size(axes: Sequence[Axis]) -> int:
    return prod(int(_dim(axis) or 0) for axis in axes)
