"""Index cells: every index of every static axis of every float tensor has a number.

Cells that can only go together are tied; the classes of the ties are what pruning ranks and what
dead-channel removal cuts.  A pinned cell never goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

Axis = tuple[ir.Value, int]
"""A tensor and one of its axes, counted from the front."""

Index = np.ndarray
"""int64 positions along an axis, shape [k]."""


def axis_size(value: ir.Value, axis: int) -> int | None:
    """Static length of an axis, or None where it is dynamic, unknown or absent."""
    if value.shape is None or axis >= len(value.shape):
        return None
    size = value.shape[axis]
    return size if isinstance(size, int) else None


def rank(value: ir.Value) -> int | None:
    """Number of axes, or None where it is unknown."""
    return None if value.shape is None else len(value.shape)


@dataclass(frozen=True)
class Tie:
    """``left[left_index[k]]`` and ``right[right_index[k]]`` go together, for every k."""

    left: Axis
    right: Axis
    left_index: Index
    right_index: Index

    @classmethod
    def same(cls, left: Axis, right: Axis) -> Tie | None:
        """Equal indices of two axes of equal static size; None where the sizes do not fit."""
        size = axis_size(*left)
        if size is None or size != axis_size(*right):
            return None
        return cls(left, right, np.arange(size), np.arange(size))


@dataclass(frozen=True)
class Limit:
    """Parts of axes of which each keeps as many cells as the others, or none on any of the axes.

    ``index[k]`` is int64 [parts, cells of a part] on ``axes[k]``: a grouped convolution's inputs
    and outputs, say.
    """

    axes: tuple[Axis, ...]
    index: tuple[Index, ...]

    def as_ties(self) -> list[Tie]:
        """The same place of all parts goes together: stricter, and independent of the choice."""
        return [
            Tie(axis, axis, np.repeat(index[:1], len(index), 0).ravel(), index.ravel())
            for axis, index in zip(self.axes, self.index, strict=True)
        ]


@dataclass
class Cells:
    """Numbers for all cells, their ties and pins."""

    first: dict[Axis, int] = field(default_factory=dict)
    size: dict[Axis, int] = field(default_factory=dict)
    count: int = 0
    _left: list[np.ndarray] = field(default_factory=list)
    _right: list[np.ndarray] = field(default_factory=list)
    pins: dict[Axis, str] = field(default_factory=dict)

    def add(self, value: ir.Value) -> None:
        """Number the cells of a tensor's static axes."""
        for axis in range(rank(value) or 0):
            size = axis_size(value, axis)
            if size is not None and (value, axis) not in self.first:
                self.first[value, axis], self.size[value, axis] = self.count, size
                self.count += size

    def ids(self, axis: Axis) -> np.ndarray:
        """Numbers of an axis' cells, int64 [size]."""
        return np.arange(self.size[axis]) + self.first[axis]

    def tie(self, tie: Tie) -> None:
        """Record that cells go together."""
        self._left.append(self.first[tie.left] + tie.left_index)
        self._right.append(self.first[tie.right] + tie.right_index)

    def pin(self, axis: Axis, reason: str) -> None:
        """Record that an axis must stay whole; the first reason given is kept."""
        if axis in self.first:
            self.pins.setdefault(axis, reason)

    def classes(self) -> np.ndarray:
        """Class number of every cell, int64 [count]: the smallest cell number in the class."""
        labels = np.arange(self.count)
        if not self._left:
            return labels
        left, right = np.concatenate(self._left), np.concatenate(self._right)
        while True:
            before = labels
            low = np.minimum(labels[left], labels[right])
            labels = labels.copy()
            # Hooking the roots as well as the cells makes long chains converge in few rounds.
            for place in (before[left], before[right], left, right):
                np.minimum.at(labels, place, low)
            labels = labels[labels]
            if np.array_equal(labels, before):
                return labels

    def where(self, classes: np.ndarray, chosen: np.ndarray) -> dict[Axis, Index]:
        """For every axis with cells in the chosen classes (bool [count]): which indices."""
        hit = chosen[classes]
        found = {}
        for axis, first in self.first.items():
            index = np.flatnonzero(hit[first : first + self.size[axis]])
            if index.size:
                found[axis] = index
        return found


def cells_on(cells: Cells, axes: Iterable[Axis]) -> np.ndarray:
    """bool [count], true for every cell of ``axes``."""
    mask = np.zeros(cells.count, bool)
    for axis in axes:
        mask[cells.ids(axis)] = True
    return mask
