"""Microseconds of every unit in float and in 8 bits, and of every tensor that changes sides."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from deploypipe.quantize.conversions import Conversions
from deploypipe.quantize.cut import Crossing, cheapest
from deploypipe.quantize.kernels import Kernel, numbering
from deploypipe.quantize.profile import Kind
from deploypipe.quantize.units import Unit

CLEARLY = 0.9
"""Another form of a node must take less than this of its time."""


@dataclass(frozen=True)
class Costs:
    """By unit's name, ``in_int`` infinite for units that did not fuse; and the tensors between."""

    in_float: Mapping[str, float]
    in_int: Mapping[str, float]
    crossings: tuple[Crossing, ...]
    in_forms: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Form -> unit -> its time where a linear node takes and gives floats in another way."""

    @property
    def fused(self) -> frozenset[str]:
        """The units that can run in 8 bits."""
        return frozenset(name for name, cost in self.in_int.items() if math.isfinite(cost))

    @property
    def forms(self) -> Mapping[str, str]:
        """Unit -> its fastest form, where that is clearly faster than the float node."""
        best: dict[str, str] = {}
        for form, times in self.in_forms.items():
            for name, time in times.items():
                limit = self.in_forms[best[name]][name] if name in best else self._limit(name)
                if 0 < time < limit:
                    best[name] = form
        return best

    def _limit(self, name: str) -> float:
        return CLEARLY * self.in_float[name]

    def cheapest(
        self, border: float = 1.0, forms: bool = False, burden: Mapping[str, float] | None = None
    ) -> frozenset[str]:
        """The units to run in static 8 bits, where a conversion costs ``border`` times what it did.

        With ``forms``, the others take their fastest form.  ``burden`` is what 8 bits cost a unit
        besides time; ``inf`` forbids them.
        """
        crossings = [
            Crossing(one.maker, one.readers, border * one.quantize, border * one.dequantize)
            for one in self.crossings
        ]
        best = {name: self.in_forms[form][name] for name, form in self.forms.items()}
        in_int = {name: cost + (burden or {}).get(name, 0.0) for name, cost in self.in_int.items()}
        return cheapest({**self.in_float, **(best if forms else {})}, in_int, crossings)


def costs_of(
    model: ir.Model,
    units: Sequence[Unit],
    in_float: Iterable[Kernel],
    in_int: Iterable[Kernel],
    fused: Collection[str],
    sizes: Mapping[str, float],
    conversions: Conversions,
    in_forms: Mapping[str, Iterable[Kernel]] | None = None,
) -> Costs:
    """Of the kernels of the float model and of the one in which ``fused`` units are 8-bit.

    ``sizes`` are the elements of the units' tensors.  ``in_forms`` are the kernels of models in which
    linear nodes have other forms; the times of others in them are left out.
    """
    members = _members(model, units)
    slow, fast = (_by_unit(kernels, units, members) for kernels in (in_float, in_int))
    others = {form: _by_unit(one, units, members) for form, one in (in_forms or {}).items()}
    linear = {unit.name for unit in units if unit.kind is Kind.LINEAR}
    return Costs(
        {unit.name: slow.get(unit.name, 0.0) for unit in units},
        {u.name: fast.get(u.name, 0.0) if u.name in fused else math.inf for u in units},
        tuple(_crossings(model, units, members, sizes, conversions)),
        {
            form: {name: time for name, time in times.items() if name in linear}
            for form, times in others.items()
        },
    )


def _members(model: ir.Model, units: Sequence[Unit]) -> dict[int, Unit]:
    """Node's number -> the unit that it is in."""
    numbers = numbering(model)
    nodes = list(model.graph)
    found: dict[int, Unit] = {}
    for unit in units:
        number = numbers[unit.result]
        found[number] = unit
        while nodes[number].outputs[0].name != unit.output:
            reader = next(iter(nodes[number].outputs[0].uses())).node
            number = numbers[str(reader.outputs[0].name)]
            found[number] = unit
    return found


def _by_unit(
    kernels: Iterable[Kernel], units: Sequence[Unit], members: Mapping[int, Unit]
) -> dict[str, float]:
    """A kernel's time is that of the units with weights in it, else of the last unit in it."""
    order = {unit.name: place for place, unit in enumerate(units)}
    found: dict[str, float] = {}
    for kernel in kernels:
        inside = {members[n].name: members[n] for n in kernel.nodes if n in members}
        if not inside:
            continue
        weighted = [name for name, unit in inside.items() if unit.kind.has_weight]
        payers = weighted or [max(inside, key=order.__getitem__)]
        for name in payers:
            found[name] = found.get(name, 0.0) + kernel.microseconds / len(payers)
    return found


def _crossings(
    model: ir.Model,
    units: Sequence[Unit],
    members: Mapping[int, Unit],
    sizes: Mapping[str, float],
    conversions: Conversions,
) -> Iterable[Crossing]:
    """Every tensor that a unit reads or makes."""
    makers = {unit.output: unit for unit in units}
    numbers = numbering(model)
    values = {str(v.name): v for v in model.graph.inputs}
    values |= {str(out.name): out for node in model.graph for out in node.outputs}
    for name in dict.fromkeys(name for u in units for name in (*u.inputs, u.output)):
        value, maker = values[name], makers.get(name)
        readers: list[str | None] = [None] if value.is_graph_output() else []
        for node, _ in value.uses():
            unit = members.get(numbers.get(str(node.outputs[0].name), -1))
            readers.append(unit.name if unit is not None and name in unit.inputs else None)
        elements = sizes.get(name, 0.0)
        turn = conversions.transpose(elements) if _is_image(value, units, name) else 0.0
        back = conversions.dequantize(elements) + turn
        gives_both = maker is not None and maker.float_output
        yield Crossing(
            maker.name if maker else None,
            tuple(dict.fromkeys(readers)),
            conversions.quantize(elements) + turn,
            0.0 if gives_both else back,
        )


def _is_image(value: ir.Value, units: Sequence[Unit], name: str) -> bool:
    """Whether a convolution makes or reads it, or it has as many axes as one would ask for."""
    rank = len(value.shape) if value.shape is not None else 0
    return rank >= 4 or any(
        unit.kind is Kind.CONV and name in (*unit.inputs, unit.output) for unit in units
    )
