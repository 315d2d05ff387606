"""Which layers of a quantized model, put back to float, restore its answers?

    x -> Q -> DQ -> Conv(DQ(w8)) -> Relu -> Q -> DQ -> y      becomes, for this unit,
    x -> Conv(w) -> Relu -> y

where ``w`` is the float model's; without it the weight stays rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from deploypipe.core.files import Json
from deploypipe.graph.constants import add_initializer, constant_of

REGAINED = 0.9
"""Share of what was lost that must come back."""

FEW = 8
"""Up to so many units, each is tried without."""

Quality = Callable[[ir.Model], float]
"""A model -> how good its answers are; more is better."""


@dataclass(frozen=True)
class Unit:
    """Nodes between roundings, by the names of their outputs; ``output`` is the last of these."""

    name: str
    op: str
    outputs: tuple[str, ...]

    @property
    def output(self) -> str:
        return self.outputs[-1]


@dataclass(frozen=True)
class Restored:
    """The units whose float form brings ``quality`` from ``before`` to ``after``.

    ``enough`` says whether that reaches ``goal``; if not, ``units`` are all there are.
    """

    units: tuple[Unit, ...]
    before: float
    after: float
    goal: float
    enough: bool
    tried: int

    def to_json(self) -> dict[str, Json]:
        units = [{**asdict(unit), "outputs": list(unit.outputs)} for unit in self.units]
        return {**asdict(self), "units": units}


def units_of(model: ir.Model) -> list[Unit]:
    """The units of a model with QuantizeLinear and DequantizeLinear, in the graph's order."""
    units: list[list[ir.Node]] = []
    place: dict[int, list[ir.Node]] = {}
    for node in model.graph:
        if _rounds(node) or node.op_type == "Constant":
            continue
        before = _only_producer(node)
        unit = place.get(id(before)) if before is not None else None
        if unit is None:
            unit = []
            units.append(unit)
        unit.append(node)
        place[id(node)] = unit
    return [_unit(nodes) for nodes in units if _is_rounded(nodes)]


def restored(model: ir.Model, reference: ir.Model, units: Sequence[Unit]) -> ir.Model:
    """A copy of ``model`` in which ``units`` compute in float, with the weights of ``reference``."""
    copy = model.clone()
    names = {name for unit in units for name in unit.outputs}
    originals = {out.name: node for node in reference.graph for out in node.outputs}
    for node in [n for n in copy.graph if n.outputs[0].name in names]:
        original = originals.get(node.outputs[0].name)
        for index, value in enumerate(node.inputs):
            source = _unrounded(value) or _weight(copy, value, original, index)
            if source is not None:
                node.replace_input_with(index, source)
        for out in node.outputs:
            _skip_rounding(out)
    RemoveUnusedNodesPass()(copy)
    return copy


def find_restoring(
    model: ir.Model,
    reference: ir.Model,
    quality: Quality,
    best: float,
    suspicion: Mapping[str, float],
    goal: float | None = None,
) -> Restored:
    """The fewest of the most suspect units that, in float, bring the quality to ``goal``.

    ``best`` is the reference's quality; the goal is by default 90 % of the way there.
    ``suspicion`` ranks units by their outputs, more is more suspect.  The number of units is found
    by bisection, which takes it that more float is never worse; up to eight are then tried without
    each.
    """
    units = sorted(units_of(model), key=lambda unit: -_suspicion(unit, suspicion))
    search = _Search(model, reference, quality)
    before = search.quality([])
    goal = before + REGAINED * (best - before) if goal is None else goal
    if before >= goal:
        return Restored((), before, before, goal, True, search.tried)
    low, high = 0, len(units)  # low units are not enough
    if not units or search.quality(units) < goal:
        after = search.quality(units)
        return Restored(tuple(units), before, after, goal, False, search.tried)
    while high - low > 1:
        middle = (low + high) // 2
        if search.quality(units[:middle]) >= goal:
            high = middle
        else:
            low = middle
    needed = _without_spare(units[:high], search, goal)
    return Restored(tuple(needed), before, search.quality(needed), goal, True, search.tried)


class _Search:
    """Quality of the model with some units restored; each set is asked once."""

    def __init__(self, model: ir.Model, reference: ir.Model, quality: Quality) -> None:
        self.model, self.reference, self._quality = model, reference, quality
        self._known: dict[frozenset[str], float] = {}

    @property
    def tried(self) -> int:
        return len(self._known)

    def quality(self, units: Sequence[Unit]) -> float:
        key = frozenset(unit.output for unit in units)
        if key not in self._known:
            self._known[key] = self._quality(restored(self.model, self.reference, units))
        return self._known[key]


def _without_spare(units: Sequence[Unit], search: _Search, goal: float) -> list[Unit]:
    """The units that are left when each that is not needed goes, the least suspect first."""
    needed = list(units)
    for unit in reversed(units if len(units) <= FEW else ()):
        rest = [one for one in needed if one is not unit]
        if rest and search.quality(rest) >= goal:
            needed = rest
    return needed


def _suspicion(unit: Unit, suspicion: Mapping[str, float]) -> float:
    return max(suspicion.get(name, float("-inf")) for name in unit.outputs)


def _rounds(node: ir.Node | None) -> bool:
    return node is not None and node.op_type in ("QuantizeLinear", "DequantizeLinear")


def _only_producer(node: ir.Node) -> ir.Node | None:
    """The one node whose output this node alone reads, without a rounding in between."""
    found = []
    for value in node.inputs:
        producer = value.producer() if value is not None else None
        if producer is None or _rounds(producer) or producer.op_type == "Constant":
            continue
        assert value is not None
        if len(list(value.uses())) == 1 and not value.is_graph_output():
            found.append(producer)
    return found[0] if len(found) == 1 else None


def _is_rounded(nodes: Sequence[ir.Node]) -> bool:
    reads = any(_rounds(v.producer()) for node in nodes for v in node.inputs if v is not None)
    return reads or any(
        _rounds(use.node) for node in nodes for v in node.outputs for use in v.uses()
    )


def _unit(nodes: Sequence[ir.Node]) -> Unit:
    outputs = tuple(str(out.name) for node in nodes for out in node.outputs if out.name)
    first = nodes[0]
    return Unit(first.name or outputs[0], "+".join(node.op_type for node in nodes), outputs)


def _unrounded(value: ir.Value | None) -> ir.Value | None:
    """``x`` for ``DQ(Q(x))``."""
    back = value.producer() if value is not None else None
    if back is None or back.op_type != "DequantizeLinear" or back.inputs[0] is None:
        return None
    rounding = back.inputs[0].producer()
    if rounding is None or rounding.op_type != "QuantizeLinear":
        return None
    return rounding.inputs[0]


def _weight(
    model: ir.Model, value: ir.Value | None, original: ir.Node | None, index: int
) -> ir.Value | None:
    """The float model's constant for this input, if the quantized one is a constant too."""
    if value is None or original is None or index >= len(original.inputs):
        return None
    back = value.producer()
    stored = back.inputs[0] if back is not None and back.op_type == "DequantizeLinear" else value
    wanted = constant_of(original.inputs[index])
    given = constant_of(stored)
    if wanted is None or given is None or wanted.shape != given.shape:
        return None
    name = f"float.{original.outputs[0].name}.{index}"
    return model.graph.initializers.get(name) or add_initializer(model.graph, name, wanted)


def _skip_rounding(value: ir.Value) -> None:
    """Whoever reads ``DQ(Q(value))`` reads ``value``, and the graph gives it under its name."""
    for use in list(value.uses()):
        if use.node.op_type != "QuantizeLinear":
            continue
        for back in list(use.node.outputs[0].uses()):
            if back.node.op_type == "DequantizeLinear":
                _take_place(value, back.node.outputs[0])


def _take_place(value: ir.Value, old: ir.Value) -> None:
    for reader in list(old.uses()):
        reader.node.replace_input_with(reader.idx, value)
    graph = value.graph
    if not old.is_graph_output() or value.is_graph_output() or not isinstance(graph, ir.Graph):
        return
    name, old.name = old.name, f"{old.name}.rounded"
    value.name, value.type, value.shape = name, old.type, old.shape
    graph.outputs[list(graph.outputs).index(old)] = value
