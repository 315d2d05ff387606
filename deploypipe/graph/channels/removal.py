"""Decide which channels are dead, as data; then cut them, in one small function.

A class of cells goes if each of its computed cells is constant, with every sum over it able to make
good for it, or needed by nobody, where a constant cell that goes needs nothing itself.  That is a
greatest fixed point: start with all classes, drop those that break the rule, repeat.  Then some
come back: one constant channel for the others to be merged into, what fills a group or a block, and
what keeps a tensor from becoming empty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Axis, Index, Limit, rank
from deploypipe.graph.channels.dataflow import Dataflow
from deploypipe.graph.channels.groups import groups_of
from deploypipe.graph.channels.merging import (
    Bundle,
    absorb_of,
    find_basis,
    folded,
    merged,
    rounding_of,
)
from deploypipe.graph.channels.rule import Absorb, Constants, Kept, Rule
from deploypipe.graph.constants import constant_of, is_constant


@dataclass(frozen=True)
class Merge:
    """Constant cells that go from a sink, and how that is made good for."""

    rule: Rule
    axis: Axis
    constants: Constants
    shared: ir.Value | None = None
    """The weight that is changed, once for all merges that have it."""


@dataclass(frozen=True)
class Removal:
    """What goes: per axis the indices; how sums make good for it; what stays although it is dead."""

    indices: dict[Axis, Index]
    merges: list[Merge]
    unread: dict[Axis, Index]
    """Cells that stay although nothing needs them: they may hold other numbers afterwards."""
    refusals: list[str]


@dataclass
class _Plan:
    """The removal while it is being settled.  All arrays are bool [cells]."""

    flow: Dataflow
    gone: np.ndarray
    held: np.ndarray
    """Needed in any case: the channels that others are merged into."""
    blocks: Counter[int] = field(default_factory=Counter)

    def settle(self) -> None:
        """Bring back every class that may not go with the others."""
        while self.gone.any():
            wrong = self.gone & self.flow.computed & ~self.flow.removable
            wrong &= self.flow.needed(self.gone, self.held)
            # A constant cell goes only with its class, so a class is judged as a whole.
            if not wrong.any():
                return
            self.gone &= ~self.flow.whole_classes(wrong)

    def revive(self, cell: int) -> None:
        """Bring back a cell's class."""
        self.gone[self.flow.members(cell)] = False


def plan_removal(flow: Dataflow, round_to: int = 1, frozen: Collection[int] = ()) -> Removal:
    """Find all dead channels; with ``round_to`` keep as many as fill the last block of a group.

    ``frozen`` are the places in ``groups_of(flow)`` of groups that stay whole.
    """
    none = np.zeros(flow.cells.count, bool)
    plan = _Plan(flow, ~flow.pinned & flow.whole_classes(flow.computed), none)
    if frozen:
        groups = groups_of(flow)
        stay = np.concatenate([groups[place].classes for place in frozen])
        plan.gone &= ~np.isin(flow.classes, stay)
    plan.settle()
    before = -1
    while before != (before := int(plan.gone.sum())) and before:
        merges = _merges(plan)
        for limit in flow.limits:
            _even(plan, limit)
        _fill_blocks(plan, round_to)
        _keep_some(plan)
        plan.settle()
    merges = _merges(plan)
    indices = flow.cells.where(np.arange(flow.cells.count), plan.gone)
    refusals = _refusals(plan, round_to)
    return Removal(indices, merges, _unread(plan), refusals)


def _merges(plan: _Plan) -> list[Merge]:
    """For every sink, the constants that go; brings back some to merge into where none stay."""
    plan.held[:] = False
    found = [merge for bundle in plan.flow.bundles for merge in _merges_of(plan, bundle)]
    return [merge for merge in found if len(merge.constants.index)]


def _merges_of(plan: _Plan, bundle: Bundle) -> list[Merge]:
    ids = np.stack([plan.flow.cells.ids(sink.axis) for _, sink in bundle])
    numbers = plan.flow.number[ids]
    # NaN != 0 too, but what goes and is live is not read.
    loss = plan.gone[ids] & bundle[0][1].reads & (np.nan_to_num(numbers) != 0)
    absorb = absorb_of(bundle)
    if not loss.any() or absorb is Absorb.NOT:  # there, what goes meets a zero
        return []
    if absorb is Absorb.FOLD:
        rows = zip(bundle, numbers, loss, strict=True)
        return [
            Merge(rule, sink.axis, folded(np.flatnonzero(lost), vector))
            for (rule, sink), vector, lost in rows
        ]
    pool, rounding = bundle[0][1].pool, rounding_of(bundle)
    pools = [pool == one for one in np.unique(pool[loss.any(0)])]
    parts = [(mine, _basis(plan, ids, numbers, loss, mine, rounding)) for mine in pools]
    lost = loss.any(0) & plan.gone[ids[0]]
    places = [(np.flatnonzero(lost & mine), basis) for mine, basis in parts]
    return [
        Merge(rule, sink.axis, merged(numbers, row, places), sink.shared)
        for row, (rule, sink) in enumerate(bundle)
    ]


def _basis(
    plan: _Plan,
    ids: np.ndarray,
    numbers: np.ndarray,
    loss: np.ndarray,
    mine: np.ndarray,
    rounding: float,
) -> Index:
    """The places of the constants that stay and take the others' part.

    ``ids`` int64, ``numbers`` float64 and ``loss`` bool are [readers, size], ``mine`` bool [size].
    """
    known = ~np.isnan(numbers).any(0)
    for place in np.flatnonzero(loss.any(0) & mine & ~known):
        plan.revive(int(ids[0, place]))  # another reader does not look at it, but would
    vectors = np.where(known & mine, numbers, 0.0)
    lost = loss.any(0) & mine & plan.gone[ids[0]]
    tiny = rounding * np.abs(vectors[:, lost]).max(initial=0.0)
    basis = find_basis(vectors, lost, ~plan.gone[ids[0]], tiny)
    for place in basis:
        plan.revive(int(ids[0, place]))
        plan.held[ids[:, place]] = True
    return basis


def _even(plan: _Plan, limit: Limit) -> None:
    """Bring back cells until all parts that are not empty keep equally many."""
    cells = [
        plan.flow.cells.ids(axis)[index]
        for axis, index in zip(limit.axes, limit.index, strict=True)
    ]
    stay = [(~plan.gone[part]).sum(1) for part in cells]
    full = np.any([count > 0 for count in stay], axis=0)
    for part, count in zip(cells, stay, strict=True):
        want = max(int(count.max()), 1)
        for row in np.flatnonzero(full & (count < want)):
            dead = part[row][plan.gone[part[row]]]
            for cell in dead[: want - int(count[row])]:
                plan.revive(int(cell))


def _fill_blocks(plan: _Plan, round_to: int) -> None:
    if round_to == 1:
        return
    for number, group in enumerate(groups_of(plan.flow)):
        dead = group.classes[plan.gone[group.classes]]
        stay = len(group) - len(dead)
        wanted = min(len(group), -(-stay // round_to) * round_to)
        plan.gone[np.isin(plan.flow.classes, dead[: wanted - stay])] = False
        plan.blocks[number] += wanted - stay


def _keep_some(plan: _Plan) -> None:
    """Bring back a channel of every tensor that may not become empty."""
    flow = plan.flow
    empty = {
        axis[0]
        for axis in flow.activations
        if flow.cells.size[axis] and plan.gone[flow.cells.ids(axis)].all()
    }
    for node in reversed(flow.graph):
        for value in node.outputs:
            if value in empty and not all(_copes(flow, u.node, value, empty) for u in value.uses()):
                empty.discard(value)
                for axis in range(rank(value) or 0):
                    if (value, axis) in flow.cells.first:
                        ids = flow.cells.ids((value, axis))
                        if len(ids) and plan.gone[ids].all():
                            plan.revive(int(ids[0]))


def _copes(flow: Dataflow, node: ir.Node, value: ir.Value, empty: set[ir.Value]) -> bool:
    """Whether a reader of an empty tensor goes with it, or can do without it."""
    if _vanishes(node, empty):
        return True
    rule = flow.rules.get(node)
    return rule is not None and rule.drops(value)


def _vanishes(node: ir.Node, empty: set[ir.Value]) -> bool:
    """Whether all outputs of a node are empty; optional ones may be missing."""
    return all(out in empty or not out.name for out in node.outputs)


def _unread(plan: _Plan) -> dict[Axis, Index]:
    if not plan.gone.any():
        return {}
    idle = plan.flow.computed & ~plan.gone & ~plan.flow.needed(plan.gone, plan.held)
    return plan.flow.cells.where(np.arange(plan.flow.cells.count), idle)


def _refusals(plan: _Plan, round_to: int) -> list[str]:
    """Dead or constant channels that stay, counted by reason."""
    flow, reasons = plan.flow, Counter[str]()
    for axis in flow.activations:
        ids = flow.cells.ids(axis)
        idle = ~np.isnan(flow.number[ids]) & ~plan.gone[ids]
        if axis in flow.cells.pins and idle.any() and not idle.all():
            reasons[f"dead channels stay: {flow.cells.pins[axis]}"] += int(idle.sum())
    lines = [f"{count} {reason}" for reason, count in sorted(reasons.items())]
    kept = sum(plan.blocks.values())
    if kept:
        lines.append(f"{kept} dead channels stay to fill blocks of {round_to}")
    return lines


def changes(flow: Dataflow, removal: Removal) -> list[str]:
    """A sentence for every weight that is cut, and for every tensor with merged constants."""
    lines = [
        f"{value.name}: axis {axis} from {flow.cells.size[value, axis]} to "
        f"{flow.cells.size[value, axis] - len(index)}"
        for (value, axis), index in removal.indices.items()
        if is_constant(value) and (rank(value) or 0) > 1
    ]
    for merge in removal.merges:
        count = len(np.unique(merge.constants.index))
        into = np.bincount(merge.constants.index).max()
        where = "one of them" if into == 1 else f"{into} of them"
        where = "the bias" if merge.constants.into[0] < 0 else where
        lines.append(f"{merge.axis[0].name}: {count} constant channels into {where}")
    return lines


def remove(flow: Dataflow, removal: Removal) -> None:
    """Carry a plan out: make good, mend attributes while the old sizes stand, then slice."""
    kept = Kept(removal.indices)
    empty = {value for value, _ in removal.indices if kept.empty(value)}
    dead = [node for node in flow.graph if _vanishes(node, empty)]
    for node in dead:
        for place in range(len(node.inputs)):
            node.replace_input_with(place, None)
    merges: dict[Rule, list[Merge]] = {}
    for merge in _once(removal.merges):
        merges.setdefault(merge.rule, []).append(merge)
    # Backward, since a node may be replaced, and with it the input that its readers know.
    for node, rule in reversed(list(flow.rules.items())):
        if node in dead:
            continue
        for merge in merges.get(rule, ()):
            rule.compensate(merge.axis, merge.constants, kept)
        if kept.touches(rule):
            rule.rewrite(kept)
    for node in reversed(dead):
        flow.graph.remove(node)
    _slice(removal, empty)


def _once(merges: list[Merge]) -> Iterator[Merge]:
    """Of the merges in one weight, the first."""
    seen = set[ir.Value]()
    for merge in merges:
        if merge.shared is None or merge.shared not in seen:
            yield merge
        if merge.shared is not None:
            seen.add(merge.shared)


def _slice(removal: Removal, empty: set[ir.Value]) -> None:
    for value in dict.fromkeys(value for value, _ in removal.indices):
        array = constant_of(value)
        if array is None:
            value.shape = None  # inferred anew
            continue
        if value in empty:
            continue  # its only reader is gone, and the initializer goes with the unused
        for axis in range(array.ndim):
            index = removal.indices.get((value, axis))
            if index is not None:
                array = np.delete(array, index, axis)
        value.const_value = ir.tensor(np.ascontiguousarray(array), name=value.name)
        value.shape = ir.Shape(array.shape)
