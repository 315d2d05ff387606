"""Decide which channels are dead, as data; then cut them, in one small function.

A class of cells goes if each of its computed cells is zero throughout or needed by nobody, where a
zero cell that goes needs nothing itself.  That is a greatest fixed point: start with all classes,
drop those that break the rule, repeat.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Axis, Index, cells_on
from deploypipe.graph.channels.dataflow import Dataflow
from deploypipe.graph.channels.groups import groups_of
from deploypipe.graph.channels.rule import Kept, rule_of
from deploypipe.graph.constants import constant_of


@dataclass(frozen=True)
class Removal:
    """What goes: per axis the indices; per sentence the story; what stays although it is dead."""

    indices: dict[Axis, Index]
    changes: list[str]
    refusals: list[str]


def plan_removal(flow: Dataflow, round_to: int = 1) -> Removal:
    """Find all dead channels; with ``round_to`` keep as many as fill the last block of a group."""
    gone = _dead(flow)
    groups = groups_of(flow)
    kept_for_block = 0
    for group in groups:
        dead = group.classes[gone[group.classes]]
        stay = len(group) - len(dead)
        wanted = min(len(group), max(-(-stay // round_to) * round_to, 1))
        revived = dead[: wanted - stay]
        kept_for_block += len(revived)
        gone[np.isin(flow.classes, revived)] = False
    _keep_one(flow, gone)
    _settle(flow, gone)
    indices = flow.cells.where(np.arange(flow.cells.count), gone)
    refusals = _refusals(flow, gone, kept_for_block, round_to)
    return Removal(indices, _changes(flow, indices), refusals)


def _dead(flow: Dataflow) -> np.ndarray:
    """bool [cells]: the cell's class can go."""
    gone: np.ndarray = ~flow.pinned & _whole_classes(flow, _computed(flow))
    _settle(flow, gone)
    return gone


def _settle(flow: Dataflow, gone: np.ndarray) -> None:
    """Take out of ``gone``, in place, every class that may not go with the others in it."""
    computed = _computed(flow)
    while gone.any():
        wrong = gone & computed & ~flow.zero & flow.needed(gone)
        # A zero cell goes only with its class, so a class is judged as a whole.
        if not wrong.any():
            return
        gone &= ~_whole_classes(flow, wrong)


def _computed(flow: Dataflow) -> np.ndarray:
    """bool [cells]: the cell is an activation's, not a weight's."""
    return cells_on(flow.cells, flow.activations)


def _whole_classes(flow: Dataflow, mask: np.ndarray) -> np.ndarray:
    """bool [cells]: some cell of the class is in ``mask``."""
    hit = np.zeros(flow.cells.count, bool)
    hit[flow.classes[mask]] = True
    return np.asarray(hit[flow.classes])


def _keep_one(flow: Dataflow, gone: np.ndarray) -> None:
    """No axis may become empty: its first channel is kept, dead as it is."""
    for axis in flow.cells.first:
        ids = flow.cells.ids(axis)
        if len(ids) and gone[ids].all():
            gone[flow.classes == flow.classes[ids[0]]] = False


def _changes(flow: Dataflow, indices: dict[Axis, Index]) -> list[str]:
    lines = []
    for (value, axis), index in indices.items():
        if constant_of(value) is not None and len(value.shape or ()) > 1:
            size = flow.cells.size[value, axis]
            lines.append(f"{value.name}: axis {axis} from {size} to {size - len(index)}")
    return lines


def _refusals(flow: Dataflow, gone: np.ndarray, kept: int, round_to: int) -> list[str]:
    """Dead or constant channels that stay, counted by reason."""
    reasons: Counter[str] = Counter()
    for axis in flow.activations:
        ids = flow.cells.ids(axis)
        vector = flow.values.of(*axis)
        idle = (vector == 0) & ~gone[ids]
        if axis in flow.cells.pins and idle.any() and not idle.all():
            reasons[f"zero channels stay: {flow.cells.pins[axis]}"] += int(idle.sum())
        fixed = ~np.isnan(vector) & (vector != 0) & ~gone[ids]
        if fixed.any() and not fixed.all() and axis[1] == 1:
            reasons["constant channels stay: their constant is not zero"] += int(fixed.sum())
    lines = [f"{count} {reason}" for reason, count in sorted(reasons.items())]
    if kept:
        lines.append(f"{kept} dead channels stay to fill blocks of {round_to}")
    return lines


def remove(graph: ir.Graph, removal: Removal) -> None:
    """Carry a plan out: mend attributes while the old sizes stand, then slice every initializer."""
    kept = Kept(removal.indices)
    for node in list(graph):
        rule = rule_of(node)
        if rule is not None and kept.touches(node):
            rule.rewrite(node, kept)
    for value in {value for value, _ in removal.indices}:
        array = constant_of(value)
        for axis in range(len(value.shape or ())):
            index = removal.indices.get((value, axis))
            if index is not None and array is not None:
                array = np.delete(array, index, axis)
        if array is None:
            value.shape = None  # inferred anew
        else:
            value.const_value = ir.tensor(array, name=value.name)
            value.shape = ir.Shape(array.shape)
