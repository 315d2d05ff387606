"""What one family of ops knows: which cells go together, what is known of them, who needs them.

A family is one file in ``ops/`` with one class, of which every node gets an instance.  An op without
a family pins all that it touches: never wrong, only less removed.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Axis, Index, Limit, Tie, axis_size, rank
from deploypipe.graph.constants import constant_of, input_of

LIVE = np.nan
"""The abstract value of a cell that is not one constant; other floats are that constant."""


@dataclass(frozen=True)
class Joint:
    """What is known along several axes of a tensor at once: float64 [a, b, ...], LIVE elsewhere.

    The values of attention, say: constant for every head and dimension, but no head is one constant.
    """

    axes: tuple[int, ...]
    array: np.ndarray

    def moved(self, places: Mapping[int, int]) -> Joint | None:
        """With other axis numbers; None where one has none."""
        if not set(self.axes) <= set(places):
            return None
        return Joint(tuple(places[axis] for axis in self.axes), self.array)

    def whole(self, axis: int) -> np.ndarray:
        """bool [size]: everything is known of a slice along one of the axes."""
        others = tuple(k for k, one in enumerate(self.axes) if one != axis)
        return np.asarray(~np.isnan(self.array).any(others))


class Values(dict[Axis, np.ndarray]):
    """Per axis, float64 [size]: the constant that a whole slice holds, or LIVE.

    ``patterns`` are tensors whose numbers are multiples of one pattern that no input changes: what a
    pooling makes of constants at a padded border.  They can still be merged, but for everything
    else they are LIVE.  ``joint`` is what is known of a tensor along several axes at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patterns: set[ir.Value] = set()
        self.joint: dict[ir.Value, Joint] = {}

    def jointly(self, value: ir.Value) -> Joint | None:
        """What is known along several axes, or along the one of which something is known."""
        if value in self.joint:
            return self.joint[value]
        for axis in range(rank(value) or 0):
            if (value, axis) in self and not np.isnan(self.of(value, axis)).all():
                return Joint((axis,), self.of(value, axis))
        return None

    def set_joint(self, value: ir.Value, known: Joint) -> None:
        """Note what is known along several axes; along one it is an ordinary vector.

        Axes of size one carry nothing.
        """
        single = tuple(k for k, size in enumerate(known.array.shape) if size == 1)
        single = single[: len(known.axes) - 1]
        if single:
            axes = tuple(axis for k, axis in enumerate(known.axes) if k not in single)
            known = Joint(axes, known.array.squeeze(single))
        if len(known.axes) > 1:
            self.joint[value] = known
        else:
            axis = known.axes[0]
            self[value, axis] = np.where(np.isnan(known.array), self.of(value, axis), known.array)

    def of(self, value: ir.Value | None, axis: int) -> np.ndarray:
        """What is known of an axis; initializers are looked at directly."""
        numbers = self.multiples(value, axis)
        if value in self.patterns:
            return np.where(numbers == 0, 0.0, LIVE)
        return numbers

    def multiples(self, value: ir.Value | None, axis: int) -> np.ndarray:
        """The constants, or the factors of the tensor's pattern."""
        if value is None:
            return np.zeros(0)
        if (value, axis) not in self:
            array = constant_of(value)
            size = axis_size(value, axis) or 0
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


class Absorb(Enum):
    """How a contraction makes good for a constant input channel that is removed."""

    NOT = "not at all"
    MERGE = "by the weights of one constant channel that stays"
    FOLD = "by the bias"


@dataclass(frozen=True)
class Sink:
    """An axis that a node sums over.

    ``reads`` bool [size]: whether its weights look at the cell at all.  ``pool`` int64 [size]: only
    cells of one pool can be merged (the groups of a grouped convolution).  ``shared`` is a weight
    that several nodes sum with, all in one way.
    """

    axis: Axis
    absorb: Absorb
    reads: np.ndarray
    pool: np.ndarray
    shared: ir.Value | None = None


@dataclass(frozen=True)
class Constants:
    """Constant cells that go from a sink: positions, values, and the one that each is merged into.

    Its weights, times ``ratio``, are added to those of ``into``, or ``into`` is -1 where the bias
    takes it.  A cell that goes into several has a place for each.
    """

    index: Index
    values: np.ndarray
    into: Index
    ratio: np.ndarray


class Rule:
    """Knowledge of one node.

    The defaults fit ops that only move cells: an output cell is what the tied input cells are, and
    an input cell is needed where a tied output cell is.
    """

    ops: ClassVar[frozenset[str]] = frozenset()
    outputs: ClassVar[int | None] = 1
    """How many outputs the rule speaks for; None for all."""

    def __init__(self, node: ir.Node) -> None:
        self.node = node

    @property
    def x(self) -> ir.Value:
        """The first input."""
        value = self.node.inputs[0]
        assert value is not None  # the engine gives no rule to a node without one
        return value

    @property
    def y(self) -> ir.Value:
        """The first output."""
        return self.node.outputs[0]

    def refusal(self) -> str | None:
        """Why nothing can be said of this node's cells, as the end of a sentence about it."""
        return None

    def ties(self) -> Iterable[Tie | None]:
        """Which cells go together."""
        return ()

    def views(self) -> Iterable[Sequence[Tie]]:
        """Choices: of each, one tie holds, and the axes of the others are pinned."""
        return ()

    def limits(self) -> Iterable[Limit]:
        """Counts that must stay equal."""
        return ()

    def sinks(self) -> Iterable[Sink]:
        """The axes that the node sums over."""
        return ()

    def values(self, known: Values) -> None:
        """Set what is known of the outputs from what is known of the inputs."""
        low: dict[Axis, np.ndarray] = {}
        high: dict[Axis, np.ndarray] = {}
        for tie in self._through():
            if tie.right not in low:
                size = axis_size(*tie.right) or 0
                low[tie.right], high[tie.right] = np.full(size, np.inf), np.full(size, -np.inf)
            given = known.of(*tie.left)[tie.left_index]
            with np.errstate(invalid="ignore"):
                np.minimum.at(low[tie.right], tie.right_index, given)  # NaN wins: LIVE stays LIVE
                np.maximum.at(high[tie.right], tie.right_index, given)
        for axis, floor in low.items():
            known[axis] = np.where(floor == high[axis], floor, LIVE)

    def joint(self, known: Values) -> Joint | None:
        """What is known of the output along several axes at once; few ops carry that."""
        return None

    def demand(self, needs: Needs, known: Values) -> None:
        """Add the demand on the inputs that follows from the demand on the outputs."""
        for tie in self._through():
            mask = np.zeros(axis_size(*tie.left) or 0, bool)
            np.logical_or.at(mask, tie.left_index, needs.of(*tie.right)[tie.right_index])
            needs.add(*tie.left, mask)

    def compensate(self, axis: Axis, gone: Constants, kept: Kept) -> None:
        """Make good in the weights for constant cells of a sink; before anything is sliced.

        What is there is sliced later by the engine; what is new must be so already.
        """

    def drops(self, value: ir.Value) -> bool:
        """Whether the node can do without an input that became empty."""
        return False

    def rewrite(self, kept: Kept) -> None:
        """Mend the node's attributes and shape constants; tensors are sliced by the engine."""

    @functools.cached_property
    def chosen(self) -> list[Tie]:
        """The ties picked from :meth:`views`; the engine fills it."""
        return []

    @functools.cached_property
    def all_ties(self) -> list[Tie]:
        """Those of :meth:`ties` that hold, and the chosen ones."""
        return [*(tie for tie in self.ties() if tie is not None), *self.chosen]

    def _through(self) -> Iterator[Tie]:
        outputs = set(self.node.outputs)
        for tie in self.all_ties:
            if tie.right[0] in outputs and tie.left[0] not in outputs:
                yield tie


class Kept:
    """Which indices stay, per axis."""

    def __init__(self, removed: Mapping[Axis, Index]) -> None:
        self.removed = removed

    def count(self, value: ir.Value, axis: int, low: int = 0, high: int | None = None) -> int:
        """How many cells of ``[low, high)`` of an axis stay."""
        high = (axis_size(value, axis) or 0) if high is None else high
        gone = self.gone(value, axis)
        return high - low - int(((gone >= low) & (gone < high)).sum())

    def gone(self, value: ir.Value, axis: int) -> Index:
        """Sorted indices that go."""
        return self.removed.get((value, axis), np.zeros(0, np.int64))

    def index(self, value: ir.Value, axis: int) -> Index:
        """Sorted indices that stay."""
        return np.setdiff1d(np.arange(axis_size(value, axis) or 0), self.gone(value, axis))

    def places(self, value: ir.Value, axis: int) -> Index:
        """int64 [size]: the new place of every index that stays; of no meaning for the others."""
        flags = np.ones(axis_size(value, axis) or 0, np.int64)
        flags[self.gone(value, axis)] = 0
        return np.cumsum(flags) - 1

    def empty(self, value: ir.Value) -> bool:
        """Whether some axis of a tensor goes altogether."""
        return value in self._empty

    @functools.cached_property
    def _empty(self) -> set[ir.Value]:
        return {
            value
            for (value, axis), index in self.removed.items()
            if len(index) and len(index) == axis_size(value, axis)
        }

    def touches(self, rule: Rule) -> bool:
        """Whether any tensor that a rule speaks for loses cells."""
        return any(
            (value, axis) in self.removed
            for value in (rule.x, *rule.node.inputs, *rule.node.outputs)
            if value is not None
            for axis in range(rank(value) or 0)
        )


def replace_nodes(
    old: Sequence[ir.Node],
    new: Sequence[ir.Node],
    values: Sequence[ir.Value],
    by: Sequence[ir.Value],
) -> None:
    """Put ``new`` nodes in the place of ``old`` ones; ``by`` take the names of ``values``."""
    graph = old[-1].graph
    assert isinstance(graph, ir.Graph)
    for value, other in zip(values, by, strict=True):
        other.name, other.type = value.name, value.type
    ir.convenience.replace_nodes_and_values(graph, old[-1], old, new, values, by)
    for value in by:
        value.shape = None  # inferred anew; onnx_ir copies the old one


def slice_constants(array: np.ndarray, axis: int) -> np.ndarray:
    """float64 [size]: the number that fills each slice of an axis, LIVE where it is not one."""
    others = tuple(other for other in range(array.ndim) if other != axis)
    if array.size == 0 or array.dtype.kind not in "fiuV":
        return np.full(array.shape[axis], LIVE)
    low, high = array.min(others), array.max(others)
    return np.where(low == high, low.astype(np.float64), LIVE)


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


def opset_of(node: ir.Node) -> int:
    """The version of the operators that a node is written in."""
    return node.version or (node.graph.opset_imports.get("", 21) if node.graph else 21)


def constant_ints(node: ir.Node, place: int) -> list[int] | None:
    """The constant integers of an input, flat; None where absent or computed."""
    array = constant_of(input_of(node, place))
    return None if array is None else [int(number) for number in array.reshape(-1)]


@functools.cache
def rules() -> dict[tuple[str, str], type[Rule]]:
    """(domain, op type) -> rule, from the files in ``ops/``."""
    package = importlib.import_module("deploypipe.graph.channels.ops")
    found: dict[tuple[str, str], type[Rule]] = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        mine = (c for c in vars(module).values() if getattr(c, "__module__", "") == module.__name__)
        for cls in mine:
            if isinstance(cls, type) and issubclass(cls, Rule):
                found.update({_key(name): cls for name in cls.ops})
    return found


def _key(name: str) -> tuple[str, str]:
    """``Conv`` or ``com.microsoft.Gelu`` -> (domain, op type)."""
    domain, _, op = name.rpartition(".")
    return domain, op


def rule_of(node: ir.Node) -> Rule | None:
    """The rule for a node, or None where nothing is known of its op."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    cls = rules().get((domain, node.op_type))
    return cls(node) if cls is not None and node.inputs and node.inputs[0] is not None else None
