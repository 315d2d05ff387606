"""One dataflow over index cells: forward what is constant, backward what is needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Axis, Cells, Tie, cells_on, rank
from deploypipe.graph.channels.rule import Needs, Rule, Values, rule_of
from deploypipe.graph.constants import constant_of

_FLOATS = frozenset(
    {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16}
)


@dataclass
class Dataflow:
    """What is known of every cell of a graph.  Shapes must have been inferred before."""

    graph: ir.Graph
    cells: Cells = field(default_factory=Cells)
    rules: dict[ir.Node, Rule] = field(default_factory=dict)
    """The rules of the nodes that the engine understands."""

    def __post_init__(self) -> None:
        for value in _float_values(self.graph):
            self.cells.add(value)
        for node in self.graph:
            self._tie(node)
        self._pin_borders()

    @cached_property
    def classes(self) -> np.ndarray:
        """int64 [cells]: cells of one number go together."""
        return self.cells.classes()

    @cached_property
    def pinned(self) -> np.ndarray:
        """bool [cells]: the cell's class may not go."""
        mask = cells_on(self.cells, self.cells.pins)
        pinned_class = np.zeros(self.cells.count, bool)
        pinned_class[self.classes[mask]] = True
        return np.asarray(pinned_class[self.classes])

    @cached_property
    def values(self) -> Values:
        """What is constant, forward through the graph."""
        known = Values()
        for node, rule in self.rules.items():
            rule.values(node, known)
        return known

    @cached_property
    def zero(self) -> np.ndarray:
        """bool [cells]: an activation's slice that is zero throughout."""
        mask = np.zeros(self.cells.count, bool)
        for axis in self.activations:
            mask[self.cells.ids(axis)] = self.values.of(*axis) == 0
        return mask

    @cached_property
    def activations(self) -> list[Axis]:
        """All axes of tensors that are computed."""
        return [axis for axis in self.cells.first if constant_of(axis[0]) is None]

    def needed(self, gone: np.ndarray) -> np.ndarray:
        """bool [cells]: demand on the activations, if the zero cells among ``gone`` are cut."""
        free = self.zero & gone
        needs = Needs()
        # Graph outputs are pinned, and so is all that a node without a rule reads.
        for axis in self.cells.pins:
            needs[axis] = np.ones(self.cells.size[axis], bool)
        for node in reversed(list(self.graph)):
            self._free(node, needs, free)
            if node in self.rules:
                self.rules[node].demand(node, needs)
        mask = np.zeros(self.cells.count, bool)
        for axis in self.activations:
            mask[self.cells.ids(axis)] = needs.of(*axis)
        return mask

    def _free(self, node: ir.Node, needs: Needs, free: np.ndarray) -> None:
        for axis in (a for value in node.outputs for a in _axes(value)):
            if axis in self.cells.first:
                needs[axis] = needs.of(*axis) & ~free[self.cells.ids(axis)]

    def _tie(self, node: ir.Node) -> None:
        rule, obstacle = rule_of(node), _obstacle(node)
        tied: set[Axis] = set()
        if rule is not None and obstacle is None:
            self.rules[node] = rule
            for tie in rule.ties(node):
                if tie is not None and self._numbered(tie):
                    self.cells.tie(tie)
                    tied |= {tie.left, tie.right}
        reason = f"{node.op_type} '{node.name}' {obstacle or 'reads the axis as a whole'}"
        values = (value for value in (*node.inputs, *node.outputs) if value is not None)
        for axis in (a for value in values for a in _axes(value)):
            if axis not in tied:
                self.cells.pin(axis, reason)

    def _numbered(self, tie: Tie) -> bool:
        return tie.left in self.cells.first and tie.right in self.cells.first

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


def _axes(value: ir.Value) -> list[Axis]:
    return [(value, axis) for axis in range(rank(value) or 0)]


def _obstacle(node: ir.Node) -> str | None:
    """Why nothing may be said of a node's cells; None where its rule speaks."""
    if rule_of(node) is None:
        return "is an op that the channel engine leaves alone"
    if any(out.uses() or out.is_graph_output() for out in node.outputs[1:]):
        return "has a second output that is used"
    if any(value is None or rank(value) is None for value in (node.inputs[0], node.outputs[0])):
        return "has a tensor of unknown rank"
    # Zero times infinity is not zero, so no rule holds for such weights.
    weights = (constant_of(value) for value in node.inputs if value and value.dtype in _FLOATS)
    if any(array is not None and not np.isfinite(array).all() for array in weights):
        return "has weights that are not finite"
    return None


def _float_values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from (value for value in graph.inputs if value.dtype in _FLOATS)
    yield from (value for value in graph.initializers.values() if value.dtype in _FLOATS)
    for node in graph:
        yield from (value for value in node.outputs if value.dtype in _FLOATS)
