"""Which units are worth 8 bits on this machine: measured, not believed.

All that fuses is timed kernel by kernel beside the float model; the times and what conversions cost
give the cheapest placement by a minimum cut.  That is a model of the runtime, so a few placements
race as whole models and the fastest wins.  If none is faster than float, float it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import onnx_ir as ir

from deploypipe.core.files import Json
from deploypipe.quantize.conversions import measure_conversions
from deploypipe.quantize.costs import Costs, costs_of
from deploypipe.quantize.kernels import Arrays, numbering, time_kernels
from deploypipe.quantize.units import Unit
from deploypipe.runtime import Target

FLOAT, ALL = "float", "all"
BORDERS = {"cut": 1.0, "cut, dear borders": 2.0, "cut, dearest borders": 4.0}
"""Candidate -> how much of its measured cost a conversion is taken to have."""
NEEDED = 0.98
"""A quantized model that takes more of the float model's time than this does not ship."""


class Race(Protocol):
    """Times whole models in turns: name -> time in units of the first model's."""

    def __call__(
        self, models: Mapping[str, ir.Model], feeds: Sequence[Arrays], /
    ) -> Mapping[str, float]: ...


class Candidate(Protocol):
    """A placement that was carried out: the names of its 8-bit units, and the model."""

    @property
    def chosen(self) -> frozenset[str]: ...
    @property
    def model(self) -> ir.Model: ...


C = TypeVar("C", bound=Candidate)


@dataclass(frozen=True)
class Decision:
    """``winner`` is a name of ``times``, each relative to the float model's."""

    winner: str
    times: Mapping[str, float]
    costs: Costs

    def reason(self, unit: str) -> str:
        """Why a unit that could run in 8 bits does not."""
        slow, fast = self.costs.in_float[unit], self.costs.in_int[unit]
        if fast >= slow:
            return f"it is slower in 8 bits here: {fast:.0f} microseconds, {slow:.0f} in float"
        return (
            f"its conversions would cost more than it gains here: {fast:.0f} microseconds, "
            f"{slow:.0f} in float"
        )

    def to_json(self) -> dict[str, Json]:
        """All times, and the microseconds of every unit."""
        units = {
            name: [slow, self.costs.in_int[name] if name in self.costs.fused else None]
            for name, slow in self.costs.in_float.items()
        }
        return {
            "winner": self.winner,
            "time_relative_to_float": dict(self.times),
            "unit_microseconds_float_int8": units,
        }


def decide(
    model: ir.Model,
    units: Sequence[Unit],
    everything: C,
    eager: C,
    sizes: Mapping[str, float],
    probes: Sequence[Arrays],
    target: Target,
    make: Callable[[frozenset[str]], C],
    race: Race,
) -> tuple[Decision, C | None]:
    """Choose among what fuses; None where float is fastest.

    Args:
        model: The float model.
        units: Every unit that it has.
        everything: All that is 8-bit where its neighbours are.
        eager: All that fuses, whatever its neighbours are; its kernels are timed.
        sizes: Elements of the units' tensors.
        probes: Samples to time with.
        target: The machine.
        make: Carries out the placement of some units, and leaves out what does not fuse.
        race: Times whole models.
    """
    numbers = numbering(model)
    slow, fast = time_kernels([model, eager.model], numbers, probes, target)
    conversions = measure_conversions(target)
    costs = costs_of(model, units, slow, fast, eager.chosen, sizes, conversions)
    candidates = {ALL: everything}
    for name, border in BORDERS.items():
        chosen = costs.cheapest(border)
        if chosen and all(chosen != one.chosen for one in candidates.values()):
            made = make(chosen)
            if made.chosen and all(made.chosen != one.chosen for one in candidates.values()):
                candidates[name] = made
    times = race({FLOAT: model, **{name: one.model for name, one in candidates.items()}}, probes)
    winner = min(candidates, key=lambda name: times[name])
    if times[winner] > NEEDED:
        return Decision(FLOAT, times, costs), None
    return Decision(winner, times, costs), candidates[winner]
