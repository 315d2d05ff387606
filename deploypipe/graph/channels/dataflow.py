"""One dataflow over index cells: forward what is constant, backward what is needed, and the ties."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Axis, Cells, Tie, pinned_cells, rank
from deploypipe.graph.channels.rule import Needs, Rule, Values, constant, rule_of

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16})


@dataclass
class Dataflow:
    """What is known of every cell of a graph.  Shapes must have been inferred before."""

    graph: ir.Graph
    cells: Cells = field(default_factory=Cells)

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
        mask = pinned_cells(self.cells, self.cells.pins)
        pinned_class = np.zeros(self.cells.count, bool)
        pinned_class[self.classes[mask]] = True
        return pinned_class[self.classes]

    @cached_property
    def values(self) -> Values:
        """What is constant, forward through the graph."""
        known = Values()
        for node, rule in self._ruled():
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
        return [axis for axis in self.cells.first if constant(axis[0]) is None]

    def needed(self, gone: np.ndarray) -> np.ndarray:
        """bool [cells]: demand on the activations, if the zero cells among ``gone`` are cut."""
        free = self.zero & gone
        needs = Needs()
        for value in self.graph.outputs:
            for axis in range(rank(value) or 0):
                needs.add(value, axis, np.ones(len(needs.of(value, axis)), bool))
        for node in reversed(list(self.graph)):
            self._free(node, needs, free)
            rule = rule_of(node)
            if rule is not None:
                rule.demand(node, needs, self.values)
        mask = np.zeros(self.cells.count, bool)
        for axis in self.activations:
            mask[self.cells.ids(axis)] = needs.of(*axis)
        return mask

    def _free(self, node: ir.Node, needs: Needs, free: np.ndarray) -> None:
        for value in node.outputs:
            for axis in range(rank(value) or 0):
                if (value, axis) in self.cells.first:
                    ids = self.cells.ids((value, axis))
                    needs[value, axis] = needs.of(value, axis) & ~free[ids]

    def _ruled(self) -> Iterator[tuple[ir.Node, Rule]]:
        for node in self.graph:
            rule = rule_of(node)
            if rule is not None:
                yield node, rule

    def _tie(self, node: ir.Node) -> None:
        rule = rule_of(node)
        tied: set[Axis] = set()
        for tie in rule.ties(node) if rule else ():
            if tie is not None and self._numbered(tie):
                self.cells.tie(tie)
                tied |= {tie.left, tie.right}
        reason = f"{node.op_type} '{node.name}'"
        reason += " reads the axis as a whole" if rule else " is an op that the channel engine leaves alone"
        for value in {*node.inputs, *node.outputs} - {None}:
            for axis in range(rank(value) or 0):  # type: ignore[arg-type]
                if (value, axis) not in tied:
                    self.cells.pin((value, axis), reason)  # type: ignore[arg-type]

    def _numbered(self, tie: Tie) -> bool:
        return tie.left in self.cells.first and tie.right in self.cells.first

    def _pin_borders(self) -> None:
        for value, what in [
            *((value, "graph input") for value in self.graph.inputs),
            *((value, "graph output") for value in self.graph.outputs),
            *((value, "tensor read inside a subgraph") for value in self._captured()),
        ]:
            for axis in range(rank(value) or 0):
                self.cells.pin((value, axis), f"'{value.name}' is a {what}")

    def _captured(self) -> Iterator[ir.Value]:
        for value in {value for value, _ in self.cells.first}:
            if any(use.node.graph is not self.graph for use in value.uses()):
                yield value


def _float_values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from (value for value in graph.inputs if value.dtype in _FLOATS)
    yield from (value for value in graph.initializers.values() if value.dtype in _FLOATS)
    for node in graph:
        yield from (value for value in node.outputs if value.dtype in _FLOATS)
