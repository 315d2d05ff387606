"""How much noise every unit alone brings to the outputs, in static 8 bits or in another form.

Errors of units are small and nearly independent, so their powers at the outputs add up.  (Dong et al.,
"HAWQ", 2019, arXiv:1905.03696 ranks layers by curvature; here the noise itself is measured.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from deploypipe.quantize.correction import Draft
from deploypipe.quantize.emit import emit
from deploypipe.quantize.forms import in_forms
from deploypipe.quantize.plan import QuantPlan
from deploypipe.quantize.profile import Kind
from deploypipe.quantize.signal import EXACT, outputs_of, sqnr_db

TABLES = "embedding tables"
"""The name under which all int8 tables together are a source of noise."""


@dataclass(frozen=True)
class Noise:
    """``power`` is that of the error at the outputs relative to the signal's, with one source of
    noise, by the unit's name; ``together`` with all of them."""

    power: Mapping[str, float]
    together: float

    def of(self, names: Iterable[str]) -> float:
        """What some sources bring together, foretold.

        Their powers added up, in the proportion in which that is true of all: a tensor between two
        units was rounded for both, and errors need not be independent.
        """
        total = sum(self.power.values())
        share = self.together / total if total > 0 else 1.0
        return share * sum(self.power.get(name, 0.0) for name in names)


def noise_of(draft: Draft) -> Noise:
    """Measure every source of noise in a draft alone, on the samples that it is judged on.

    One session at a time is open, each for a model with a single source in it.
    """
    shop = draft.shop
    (expected,) = outputs_of([shop.model], shop.seen.judges, shop.target)

    def power(other: ir.Model) -> float:
        (given,) = outputs_of([other], shop.seen.judges, shop.target)
        found = sqnr_db(expected, given)
        return power_of(-EXACT if math.isnan(found) else found)

    silent = {unit.name: 0.0 for unit in draft.made.plan.units if unit.kind is Kind.MOVE}
    heard = {name: power(model) for name, model in _sources(draft)}
    return Noise({**silent, **heard}, power(draft.made.model))


def _sources(draft: Draft) -> Iterator[tuple[str, ir.Model]]:
    """What brings noise, each with the float model in which nothing else does."""
    shop, plan = draft.shop, draft.made.plan
    for unit in plan.units:
        if unit.kind is not Kind.MOVE:
            yield unit.name, emit(shop.model, single(plan, unit.name))
    for name, form in shop.forms.items():
        yield name, in_forms(shop.model, shop.found.units, {name: form}, shop.profile)
    if shop.tabled[1]:
        yield TABLES, shop.tabled[0]


def single(plan: QuantPlan, name: str) -> QuantPlan:
    """The plan for one unit."""
    (unit,) = (one for one in plan.units if one.name == name)
    own = {one: plan.tensors[one] for one in (*unit.inputs, unit.output) if one in plan.tensors}
    return replace(plan, units=(unit,), tensors=own, kept_float={})


def power_of(decibels: float) -> float:
    """Of an error so far below the signal, relative to the signal's."""
    return float(10 ** (-decibels / 10))
