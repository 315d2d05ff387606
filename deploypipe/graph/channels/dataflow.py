"""One dataflow over index cells: forward what is constant, backward what is needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Axis, Cells, Limit, Tie, cells_on, rank
from deploypipe.graph.channels.merging import Bundle, bundles
from deploypipe.graph.channels.quantized import is_dequantized
from deploypipe.graph.channels.rule import (
    Absorb,
    Needs,
    Rule,
    Sink,
    Values,
    rule_of,
    slice_constants,
)
from deploypipe.graph.channels.shuffle import Shuffle, find_shuffles
from deploypipe.graph.constants import constant_of, is_constant

_FLOATS = frozenset(
    {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16}
)
_CODES = frozenset({ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT32})
"""Integers that stand for numbers in a quantized graph."""


@dataclass
class Dataflow:
    """What is known of every cell of a graph.  Shapes must have been inferred before.

    With ``uniform``, grouped convolutions lose the same local channels in all groups, so that the
    classes alone say what may be removed: that is what pruning ranks.  ``inner`` prefers the last
    of several axes that a Reshape splits or merges, instead of the first.
    """

    graph: ir.Graph
    uniform: bool = False
    inner: bool = False
    cells: Cells = field(default_factory=Cells)
    rules: dict[ir.Node, Rule] = field(default_factory=dict)
    """The rules of the nodes that the engine understands."""
    limits: list[Limit] = field(default_factory=list)
    ambiguous: bool = False
    """Whether a Reshape could have been read in another way."""

    def __post_init__(self) -> None:
        shuffles = {shuffle.last: shuffle for shuffle in find_shuffles(self.graph)}
        inside = {node for shuffle in shuffles.values() for node in shuffle.inside}
        hidden = {value for node in inside for value in node.outputs}
        for value in _values(self.graph):
            if value not in hidden:
                self.cells.add(value)
        choices: list[tuple[Rule, str]] = []
        for node in self.graph:
            if node not in inside:
                self._tie(node, shuffles.get(node), choices)
        self._pin_borders()
        self._choose(choices)

    @cached_property
    def classes(self) -> np.ndarray:
        """int64 [cells]: cells of one number go together."""
        return self.cells.classes()

    def members(self, cell: int) -> np.ndarray:
        """Numbers of all cells of a cell's class."""
        order, starts = self._by_class
        label = self.classes[cell]
        return np.asarray(order[starts[label] : starts[label + 1]])

    @cached_property
    def _by_class(self) -> tuple[np.ndarray, np.ndarray]:
        """The cells sorted by class, and where every class number begins."""
        order = np.argsort(self.classes, kind="stable")
        return order, np.searchsorted(self.classes[order], np.arange(self.cells.count + 1))

    @cached_property
    def pinned(self) -> np.ndarray:
        """bool [cells]: the cell's class may not go."""
        return self._whole(cells_on(self.cells, self.cells.pins), self.classes)

    @cached_property
    def values(self) -> Values:
        """What is constant, forward through the graph."""
        known = Values()
        for rule in self.rules.values():
            rule.values(known)
            joint = rule.joint(known)
            if joint is not None:
                known.set_joint(rule.y, joint)
        return known

    @cached_property
    def number(self) -> np.ndarray:
        """float64 [cells]: the constant of a computed cell, NaN where it is live or a weight's.

        Of a tensor with a pattern it is the pattern's factor.
        """
        numbers = np.full(self.cells.count, np.nan)
        for axis in self.activations:
            numbers[self.cells.ids(axis)] = self.values.multiples(*axis)
        return numbers

    @cached_property
    def removable(self) -> np.ndarray:
        """bool [cells]: constant, and every sum over it can make good for it."""
        known = ~np.isnan(self.number)
        for value, joint in self.values.joint.items():
            for axis in joint.axes:
                if (value, axis) in self.cells.first:
                    known[self.cells.ids((value, axis))] |= joint.whole(axis)
        for _, sink in self.sinks:
            ids = self.cells.ids(sink.axis)
            absorbed = ~np.isnan(self.number[ids]) & (sink.absorb is not Absorb.NOT)
            known[ids] &= absorbed | (self.number[ids] == 0) | ~sink.reads
        return np.asarray(known)

    @cached_property
    def computed(self) -> np.ndarray:
        """bool [cells]: the cell is an activation's, not a weight's."""
        return cells_on(self.cells, self.activations)

    @cached_property
    def activations(self) -> list[Axis]:
        """All axes of tensors that are computed, other than weights behind DequantizeLinear."""
        return [
            axis
            for axis in self.cells.first
            if not is_constant(axis[0]) and not is_dequantized(axis[0])
        ]

    @cached_property
    def sinks(self) -> list[tuple[Rule, Sink]]:
        """All sums over numbered axes; a bias cannot hold a pattern."""
        found = [(rule, sink) for rule in self.rules.values() for sink in rule.sinks()]
        folds = {Absorb.FOLD: Absorb.MERGE}
        return [
            (rule, replace(sink, absorb=folds.get(sink.absorb, sink.absorb)))
            if sink.axis[0] in self.values.patterns
            else (rule, sink)
            for rule, sink in found
            if sink.axis in self.cells.first
        ]

    @cached_property
    def bundles(self) -> list[Bundle]:
        """The sums by the weight that they share."""
        return bundles(self.sinks)

    def needed(self, gone: np.ndarray, also: np.ndarray) -> np.ndarray:
        """bool [cells]: demand on the activations if the constant cells among ``gone`` are cut.

        ``also`` bool [cells] is needed in any case.
        """
        free = self.removable & gone
        needs = Needs()
        # Graph outputs are pinned, and so is all that a node without a rule reads.
        for axis in self.cells.pins:
            needs[axis] = np.ones(self.cells.size[axis], bool)
        for node in reversed(self.graph):
            for axis in (a for value in node.outputs for a in _axes(value)):
                if axis in self.cells.first:
                    ids = self.cells.ids(axis)
                    needs[axis] = (needs.of(*axis) | also[ids]) & ~free[ids]
            if node in self.rules:
                self.rules[node].demand(needs, self.values)
        mask = np.zeros(self.cells.count, bool)
        for axis in self.activations:
            mask[self.cells.ids(axis)] = needs.of(*axis)
        return mask

    def whole_classes(self, mask: np.ndarray) -> np.ndarray:
        """bool [cells]: some cell of the class is in ``mask``."""
        return self._whole(mask, self.classes)

    def _whole(self, mask: np.ndarray, classes: np.ndarray) -> np.ndarray:
        hit = np.zeros(self.cells.count, bool)
        hit[classes[mask]] = True
        return np.asarray(hit[classes])

    def _tie(self, node: ir.Node, rule: Rule | None, choices: list[tuple[Rule, str]]) -> None:
        rule = rule or rule_of(node)
        obstacle = _obstacle(node, rule)
        understood: set[Axis] = set()
        if rule is not None and obstacle is None:
            self.rules[node] = rule
            understood = self._record(rule)
        reason = f"{node.op_type} '{node.name}' {obstacle or 'reads the axis as a whole'}"
        if rule is not None and obstacle is None and (views := list(rule.views())):
            choices.append((rule, reason))
            understood |= {a for view in views for tie in view for a in (tie.left, tie.right)}
        for axis in (a for value in _touched(node, rule) for a in _axes(value)):
            if axis not in understood:
                self.cells.pin(axis, reason)

    def _record(self, rule: Rule) -> set[Axis]:
        understood = {sink.axis for sink in rule.sinks()}
        for tie in rule.ties():
            if tie is not None and self._numbered(tie):
                self.cells.tie(tie)
                understood |= {tie.left, tie.right}
        for limit in rule.limits():
            understood |= set(limit.axes)
            if self.uniform:
                for tie in limit.as_ties():
                    self.cells.tie(tie)
            else:
                self.limits.append(limit)
        return understood

    def _numbered(self, tie: Tie) -> bool:
        return tie.left in self.cells.first and tie.right in self.cells.first

    def _choose(self, choices: list[tuple[Rule, str]]) -> None:
        """Of each choice take the first tie that no other node forbids."""
        if not choices:
            return
        classes = self.cells.classes()
        pinned = self._whole(cells_on(self.cells, self.cells.pins), classes)
        for rule, reason in choices:
            for view in rule.views():
                ties = [tie for tie in view if self._numbered(tie)]
                ties = ties[::-1] if self.inner else ties
                free = [
                    t
                    for t in ties
                    if not pinned[self.cells.ids(t.left)].any()
                    and not pinned[self.cells.ids(t.right)].any()
                ]
                taken = (free or ties)[:1]
                self.ambiguous |= len(free) > 1
                rule.chosen.extend(taken)
                mine = {axis for tie in taken for axis in (tie.left, tie.right)}
                for tie in taken:
                    self.cells.tie(tie)
                for axis in {a for t in view for a in (t.left, t.right)} - mine:
                    self.cells.pin(axis, reason)

    def _pin_borders(self) -> None:
        for value, what in [
            *((value, "graph input") for value in self.graph.inputs),
            *((value, "graph output") for value in self.graph.outputs),
            *((value, "tensor read inside a subgraph") for value in self._captured()),
        ]:
            for axis in _axes(value):
                self.cells.pin(axis, f"'{value.name}' is a {what}")

    def _captured(self) -> Iterator[ir.Value]:
        for value in dict.fromkeys(value for value, _ in self.cells.first):
            if any(use.node.graph is not self.graph for use in value.uses()):
                yield value


def _touched(node: ir.Node, rule: Rule | None) -> Iterator[ir.Value]:
    inputs = rule.inputs if isinstance(rule, Shuffle) else node.inputs
    return (value for value in (*inputs, *node.outputs) if value is not None)


def _axes(value: ir.Value) -> list[Axis]:
    return [(value, axis) for axis in range(rank(value) or 0)]


def _obstacle(node: ir.Node, rule: Rule | None) -> str | None:
    """Why nothing may be said of a node's cells; None where its rule speaks."""
    if rule is None:
        return "is an op that the channel engine leaves alone"
    more = node.outputs[rule.outputs :] if rule.outputs is not None else ()
    if any(out.uses() or out.is_graph_output() for out in more):
        return "has a second output that is used"
    if any(rank(value) is None for value in (rule.x, rule.y)):
        return "has a tensor of unknown rank"
    # Zero times infinity is not zero, so no rule holds for such weights; a mask is only added.
    weights = (constant_of(value) for value in node.inputs if value and value.dtype in _FLOATS)
    if any(a is not None and not (_finite(a) or _masks(node, a)) for a in weights):
        return "has weights that are not finite"
    return rule.refusal()


def _finite(array: np.ndarray) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum()  # takes no memory; of large numbers it overflows
    return bool(np.isfinite(total)) or bool(np.isfinite(array).all())


def _masks(node: ir.Node, array: np.ndarray) -> bool:
    """Whether infinities are only added, and fill no slice, so that no channel becomes one."""
    if node.op_type != "Add" or not array.ndim or np.isnan(array).any():
        return False
    return not any(np.isinf(slice_constants(array, axis)).any() for axis in range(array.ndim))


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    known = [*graph.inputs, *graph.initializers.values()]
    known += [value for node in graph for value in node.outputs]
    yield from (value for value in known if value.dtype in _FLOATS | _CODES)
