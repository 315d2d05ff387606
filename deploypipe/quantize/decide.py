"""Which units are worth 8 bits on this machine: measured, not believed.

All that fuses is timed kernel by kernel beside the float model; the times and what conversions cost
give the cheapest placement by a minimum cut.  That is a model of the runtime, so a few placements
race as whole models and the fastest wins.  If none is faster than float, float it is.

A linear node that is not in static 8 bits may take another form (`forms`): then a placement is raced
only if its outputs come as near to the float model's as those of the static model do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

import onnx_ir as ir

from deploypipe.core.files import Json
from deploypipe.quantize.conversions import measure_conversions
from deploypipe.quantize.costs import Costs, costs_of
from deploypipe.quantize.forms import DYNAMIC, NAMES, adopted, eligible, in_forms
from deploypipe.quantize.kernels import Arrays, numbering, time_kernels
from deploypipe.quantize.profile import Profile
from deploypipe.quantize.signal import outputs_of, sqnr_db
from deploypipe.quantize.units import Unit
from deploypipe.runtime import Target

FLOAT, ALL = "float", "all"
BORDERS = {"cut": 1.0, "cut, dear borders": 2.0, "cut, dearest borders": 4.0}
"""Candidate -> how much of its measured cost a conversion is taken to have."""
FORM_BORDERS = {"cut, linear nodes by form": 1.0, "cut, linear nodes by form, dear borders": 4.0}
"""The same for placements in which linear nodes have other forms."""
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
    """``winner`` is a name of ``times``, each relative to the float model's.

    ``forms`` are those of the winner's linear nodes, by unit.  ``sqnr_db`` are placements with forms,
    and the static one that they must come up to; ``refused`` says why some did not race.
    """

    winner: str
    times: Mapping[str, float]
    costs: Costs
    forms: Mapping[str, str] = field(default_factory=dict)
    sqnr_db: Mapping[str, float] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    def reasons(self, unfused: Mapping[str, str]) -> dict[str, str]:
        """Why each unit does not run in 8 bits, if it does not; ``unfused`` says it of those that
        cannot."""
        return {**unfused, **{unit: self._reason(unit) for unit in self.costs.fused}}

    def _reason(self, unit: str) -> str:
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
            "linear_microseconds": {form: dict(one) for form, one in self.costs.in_forms.items()},
            "linear_forms": dict(self.forms),
            "sqnr_db": {n: None if math.isnan(db) else db for n, db in self.sqnr_db.items()},
            "refused": dict(self.refused),
        }


@dataclass(frozen=True)
class _Entry(Generic[C]):
    """A whole model for the race; ``made`` is None where nothing of it is in static 8 bits."""

    made: C | None
    model: ir.Model
    forms: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Question(Generic[C]):
    """What is to be decided.

    ``model`` is the float model, ``base`` the same with what ships beside units in 8 bits, such as
    int8 tables, and ``units`` every unit that it has; ``everything`` all that is
    8-bit where its neighbours are; ``eager`` all that fuses, whatever its neighbours are, whose
    kernels are timed; ``sizes`` the elements of the units' tensors; ``probes`` samples to time with.
    ``make`` carries out the placement of some units, and leaves out what does not fuse; None if
    nothing is left.
    """

    model: ir.Model
    base: ir.Model
    units: Sequence[Unit]
    everything: C
    eager: C
    sizes: Mapping[str, float]
    probes: Sequence[Arrays]
    target: Target
    profile: Profile
    make: Callable[[frozenset[str]], C | None]


def decide(asked: Question[C], race: Race) -> tuple[Decision, C | None]:
    """Choose among what fuses; None where nothing is in static 8 bits: float is fastest, or other
    forms of its linear nodes are.  ``race`` times whole models."""
    costs = _measured(asked)
    entries = {ALL: _Entry(asked.everything, asked.everything.model), **_static(asked, costs)}
    formed, decibels, refused = _accurate(asked, _formed(asked, costs))
    entries |= formed
    models = {FLOAT: asked.model, **{name: one.model for name, one in entries.items()}}
    times = race(models, asked.probes)
    winner = min(entries, key=lambda name: times[name])
    if times[winner] > NEEDED:
        return Decision(FLOAT, times, costs, {}, decibels, refused), None
    best = entries[winner]
    return Decision(winner, times, costs, best.forms, decibels, refused), best.made


def _measured(asked: Question[C]) -> Costs:
    """Kernels of the float model, of all in 8 bits, and of linear nodes in every form, in turns."""
    model, numbers = asked.model, numbering(asked.model)
    linear = eligible(model, asked.units, asked.target.provider)
    models = [(model, numbers), (asked.eager.model, numbers)]
    for form in NAMES if linear else ():
        changed = in_forms(model, linear, {one.name: form for one in linear}, asked.profile)
        models.append((changed, adopted(changed, numbers)))
    slow, fast, *others = time_kernels(models, asked.probes, asked.target)
    conversions = measure_conversions(asked.target)
    chosen, sizes = asked.eager.chosen, asked.sizes
    formed = dict(zip(NAMES if linear else (), others, strict=True))
    costs = costs_of(model, asked.units, slow, fast, chosen, sizes, conversions, formed)
    names = {one.name for one in linear}
    return replace(
        costs,
        in_forms={
            form: {name: time for name, time in one.items() if name in names}
            for form, one in costs.in_forms.items()
        },
    )


def _static(asked: Question[C], costs: Costs) -> dict[str, _Entry[C]]:
    """The cuts between float and static 8 bits that differ."""
    found: dict[str, _Entry[C]] = {}
    seen = {asked.everything.chosen}
    for name, border in BORDERS.items():
        chosen = costs.cheapest(border)
        if chosen and chosen not in seen:
            made = asked.make(chosen)
            if made is not None and made.chosen not in seen:
                found[name] = _Entry(made, made.model)
                seen.add(made.chosen)
            seen.add(chosen)
    return found


def _formed(asked: Question[C], costs: Costs) -> dict[str, _Entry[C]]:
    """The cuts where linear nodes of the float side have their fastest form; and, if nothing but
    linear nodes has weights, all of them dynamic."""
    if not costs.forms:
        return {}
    wanted: dict[str, tuple[frozenset[str], Mapping[str, str]]] = {}
    for name, border in FORM_BORDERS.items():
        wanted[name] = costs.cheapest(border, forms=True), costs.forms
    weighted = {unit.name for unit in asked.units if unit.kind.has_weight}
    all_dynamic = dict.fromkeys(costs.in_forms.get(DYNAMIC, {}), DYNAMIC)
    if all_dynamic.keys() == weighted:
        wanted["all linear nodes dynamic"] = frozenset(), all_dynamic
    found: dict[str, _Entry[C]] = {}
    for name, (chosen, forms) in wanted.items():
        made = asked.make(chosen) if chosen & weighted else None
        given = made.chosen if made is not None else frozenset()
        forms = {unit: form for unit, form in forms.items() if unit not in given}
        before = [
            (one.made.chosen if one.made else frozenset(), one.forms) for one in found.values()
        ]
        if forms and (given, forms) not in before:
            base = asked.base if made is None else made.model
            found[name] = _Entry(made, in_forms(base, asked.units, forms, asked.profile), forms)
    return found


def _accurate(
    asked: Question[C], entries: Mapping[str, _Entry[C]]
) -> tuple[dict[str, _Entry[C]], dict[str, float], dict[str, str]]:
    """Those that come as near to the float model as all in static 8 bits; all decibels; and why the
    others do not."""
    if not entries:
        return {}, {}, {}
    models = [asked.model, asked.everything.model, *(one.model for one in entries.values())]
    expected, *given = outputs_of(models, asked.probes, asked.target)
    names = (ALL, *entries)
    found = {name: sqnr_db(expected, one) for name, one in zip(names, given, strict=True)}
    refused = {
        name: f"{found[name]:.1f} dB, {found[ALL]:.1f} in static 8 bits"
        for name in entries
        if found[name] < found[ALL]
    }
    if math.isnan(sum(found.values())):
        refused = dict.fromkeys(entries, "the outputs' shapes change, so they cannot be compared")
    return {name: one for name, one in entries.items() if name not in refused}, found, refused
