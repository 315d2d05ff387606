"""What one family of ops knows: which cells go together, what is known of them, who needs them.

A family is one file in ``ops/`` with one class.  An op without a family pins all that it touches:
never wrong, only less removed.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Axis, Index, Tie, axis_size, rank
from deploypipe.graph.constants import constant_of

LIVE = np.nan
"""The abstract value of a cell that is not one constant; other floats are that constant."""


class Values(dict[Axis, np.ndarray]):
    """Per axis, float64 [size]: the constant that a whole slice holds, or LIVE."""

    def of(self, value: ir.Value | None, axis: int) -> np.ndarray:
        """What is known of an axis; initializers are looked at directly."""
        if value is None:
            return np.zeros(0)
        if (value, axis) not in self:
            size = axis_size(value, axis) or 0
            array = constant_of(value)
            known = np.full(size, LIVE) if array is None else slice_constants(array, axis)
            self[value, axis] = known
        return self[value, axis]


class Needs(dict[Axis, np.ndarray]):
    """Per axis, bool [size]: whether anybody needs the slice."""

    def of(self, value: ir.Value, axis: int) -> np.ndarray:
        """Demand on an axis; an axis that nobody spoke of is not needed."""
        return self.setdefault((value, axis), np.zeros(axis_size(value, axis) or 0, bool))

    def add(self, value: ir.Value, axis: int, mask: np.ndarray) -> None:
        """Add demand."""
        self[value, axis] = self.of(value, axis) | mask


class Rule:
    """Knowledge of one family of ops.

    The defaults fit ops that only move cells: an output cell is what the tied input cell is, and an
    input cell is needed where a tied output cell is.
    """

    ops: ClassVar[frozenset[str]] = frozenset()

    def ties(self, node: ir.Node) -> Iterable[Tie | None]:
        """Which cells go together.  Axes that appear in no tie are pinned by the engine."""
        return ()

    def values(self, node: ir.Node, known: Values) -> None:
        """Set what is known of the outputs from what is known of the inputs."""
        for tie in self._through(node):
            value, axis = tie.right
            into = known.of(value, axis).copy()
            into[tie.right_index] = known.of(*tie.left)[tie.left_index]
            known[value, axis] = into

    def demand(self, node: ir.Node, needs: Needs) -> None:
        """Add the demand on the inputs that follows from the demand on the outputs."""
        for tie in self._through(node):
            mask = np.zeros(axis_size(*tie.left) or 0, bool)
            np.logical_or.at(mask, tie.left_index, needs.of(*tie.right)[tie.right_index])
            needs.add(*tie.left, mask)

    def rewrite(self, node: ir.Node, kept: Kept) -> None:
        """Mend the node's attributes and shape constants; tensors are sliced by the engine."""

    def _through(self, node: ir.Node) -> Iterator[Tie]:
        outputs = set(node.outputs)
        for tie in self.ties(node):
            if tie is not None and tie.right[0] in outputs and constant_of(tie.left[0]) is None:
                yield tie


class Kept:
    """Which indices stay, per axis."""

    def __init__(self, removed: dict[Axis, Index]) -> None:
        self.removed = removed

    def count(self, value: ir.Value, axis: int, low: int = 0, high: int | None = None) -> int:
        """How many cells of ``[low, high)`` of an axis stay."""
        size = axis_size(value, axis) or 0
        high = size if high is None else high
        gone = self.removed.get((value, axis), np.zeros(0, int))
        return high - low - int(((gone >= low) & (gone < high)).sum())

    def touches(self, node: ir.Node) -> bool:
        """Whether any tensor of the node loses cells."""
        near = {value for value in (*node.inputs, *node.outputs) if value is not None}
        return any(value in near for value, _ in self.removed)


def slice_constants(array: np.ndarray, axis: int) -> np.ndarray:
    """float64 [size]: the number that fills each slice of an axis, LIVE where it is not one."""
    flat = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    if flat.shape[1] == 0 or array.dtype.kind not in "fiu":
        return np.full(array.shape[axis], LIVE)
    return np.where((flat == flat[:, :1]).all(1), flat[:, 0].astype(np.float64), LIVE)


def every_axis(left: ir.Value, right: ir.Value, skip: int | None = None) -> Iterator[Tie | None]:
    """Equal indices on all axes of two tensors of one rank."""
    if rank(left) == rank(right):
        for axis in range(rank(left) or 0):
            if axis != skip:
                yield Tie.same((left, axis), (right, axis))


def ints(node: ir.Node, name: str, default: list[int]) -> list[int]:
    """An attribute that is a list of integers."""
    attribute = node.attributes.get(name)
    return list(attribute.as_ints()) if attribute is not None else default


def integer(node: ir.Node, name: str, default: int) -> int:
    """An attribute that is one integer."""
    attribute = node.attributes.get(name)
    return attribute.as_int() if attribute is not None else default


@functools.cache
def rules() -> dict[str, Rule]:
    """Op type -> rule, from the files in ``ops/``."""
    package = importlib.import_module("deploypipe.graph.channels.ops")
    found: dict[str, Rule] = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        mine = (c for c in vars(module).values() if getattr(c, "__module__", "") == module.__name__)
        for cls in mine:
            if isinstance(cls, type) and issubclass(cls, Rule):
                found.update(dict.fromkeys(cls.ops, cls()))
    return found


def rule_of(node: ir.Node) -> Rule | None:
    """The rule for a node, or None where nothing is known of its op."""
    return rules().get(node.op_type) if node.domain == "" else None
