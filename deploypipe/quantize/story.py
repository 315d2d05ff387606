"""The whole of it: observe -> plan -> emit -> audit -> decide, and again without what did not fuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from deploypipe.core.errors import UserError
from deploypipe.core.files import Json
from deploypipe.core.progress import Progress
from deploypipe.graph import Outcome
from deploypipe.quantize.audit import Audit
from deploypipe.quantize.calibrator import CALIBRATORS, Calibrator
from deploypipe.quantize.correct import means_needed
from deploypipe.quantize.decide import FLOAT, Decision, Race, decide
from deploypipe.quantize.histogram import Histogram
from deploypipe.quantize.lookout import Arrays
from deploypipe.quantize.observe import observe
from deploypipe.quantize.opset import modern
from deploypipe.quantize.placement import Placement, place
from deploypipe.quantize.plan import QuantPlan
from deploypipe.quantize.profile import PROFILES, Profile
from deploypipe.quantize.units import Found, find_units
from deploypipe.quantize.workshop import Made, Workshop, check_worth
from deploypipe.runtime import Target, host

FEW = 8
"""Fewer samples than that get a warning."""

_NOTHING = QuantPlan((), {}, {}, {})


@dataclass
class Quantized(Outcome):
    """The quantized model (a copy) with its story; every unit of ``plan`` runs in 8 bits.

    ``notes`` is JSON: calibrator, profile, samples, units planned at first and fused in the end, the
    runtime's kernels, the range of every tensor and the whole plan.
    """

    plan: QuantPlan = _NOTHING
    audit: Audit = field(default_factory=lambda: Audit({}, {}))
    notes: Mapping[str, Json] = field(default_factory=dict)


def quantize_model(
    model: ir.Model,
    feeds: Iterable[Arrays],
    target: Target,
    *,
    calibrator: Calibrator,
    profile: Profile,
    progress: Progress | None = None,
    keep_float: Mapping[str, str] | None = None,
    samples: int = 0,
    race: Race | None = None,
) -> Quantized:
    """A static 8-bit copy of a float32 model.

    Args:
        model: Stays as it is.
        feeds: Calibration batches, input name -> array with the samples along the first dimension;
            read once.
        target: Where the model is to run; it is opened there to be observed and audited.
        keep_float: Node name -> reason, for nodes that are not to be quantized.
        samples: How many there are in ``feeds``, for the progress.
        race: Times whole models on ``target``.  With it, units stay float where 8 bits do not pay
            there, and the float model itself comes back (``modified`` is False) where none is
            faster; without it, all that fuses is 8-bit.

    Raises:
        UserError: the model or the samples do not allow it, or no node can be quantized.
    """
    profile = profile.resolve()
    unheard = profile.elsewhere(target.provider) or profile.strange(host()["flags"])
    race = None if unheard else race
    modern_model, converted = modern(model, profile.min_opset)
    found = find_units(modern_model, profile)
    asked = _known(dict(keep_float or {}), found)
    placement = place(modern_model, found, asked)
    check_worth(placement)
    # A cut may choose any unit, so the tensors of all are observed where there will be one.
    wanted = placement if race is None else place(modern_model, found, asked, follow=False)
    tensors = sorted(set(wanted.roots.values()))
    means = {k: v for k, v in means_needed(modern_model, wanted.units).items() if k in tensors}
    floored = {unit.output for unit in wanted.units if unit.low >= 0}
    seen = observe(modern_model, tensors, feeds, target, progress, samples, means, floored)
    shop = Workshop(modern_model, found, seen, wanted.roots, calibrator, profile, target)
    made: Made | None = shop.make(placement, asked, follow=True)
    decision = None
    if race is not None and made is not None:
        decision, made = _decided(shop, made, asked, wanted, race)
    if made is None:
        notes = _notes(shop, None, len(placement.units), decision)
        return Quantized(model.clone(), False, [], _slower(decision), [], notes=notes)
    made, gained = shop.corrected(made)
    notes = {**_notes(shop, made, len(placement.units), decision), "bias_correction_db": gained}
    changes = [*converted, *_changes(made.plan)]
    refusals = [*_refusals(modern_model, made.plan), *_warnings(shop, unheard)]
    return Quantized(made.model, True, changes, refusals, [], made.plan, made.audit, notes)


def _known(asked: Mapping[str, str], found: Found) -> Mapping[str, str]:
    unknown = sorted(set(asked) - {unit.name for unit in found.units})
    if unknown:
        raise UserError(
            f"keep_float names '{unknown[0]}', which is no node that could be quantized"
        )
    return asked


def _warnings(shop: Workshop, unheard: str | None) -> list[str]:
    """What may be less than the user thinks."""
    told = []
    if shop.seen.samples < FEW:
        told.append(
            f"only {shop.seen.samples} samples were observed: ranges may be too narrow for others; "
            "give 100"
        )
    if unheard is not None:
        told.append(f"no time was taken for profile {PROFILES.name_of(shop.profile)}: {unheard}")
    return told


def _decided(
    shop: Workshop, made: Made, asked: Mapping[str, str], wanted: Placement, race: Race
) -> tuple[Decision, Made | None]:
    """The placement that is fastest here, its float units with the reason."""

    def kept_without(chosen: Collection[str], reason: Callable[[str], str]) -> dict[str, str]:
        others = {unit.name for unit in wanted.units} - set(chosen)
        return {**asked, **{name: reason(name) for name in others}}

    def make(chosen: frozenset[str]) -> Made:
        kept = kept_without(chosen, lambda _: "float is faster")
        return shop.make(place(shop.model, shop.found, kept, follow=False), kept, follow=False)

    eager = shop.make(wanted, asked, follow=False)
    sizes = {name: shop.histogram(name).elements for name in shop.observed}
    decision, best = decide(
        shop.model, wanted.units, made, eager, sizes, shop.seen.probes, shop.target, make, race
    )
    if best is None or best is made:
        return decision, best
    kept = {**best.plan.kept_float, **kept_without(best.chosen, decision.reason)}
    return decision, replace(best, plan=replace(best.plan, kept_float=kept))


def _changes(plan: QuantPlan) -> list[str]:
    counts = Counter(unit.op for unit in plan.units)
    return [f"{count} {op} in 8 bits" for op, count in sorted(counts.items())]


def _refusals(model: ir.Model, plan: QuantPlan) -> list[str]:
    ops = {node.name or node.outputs[0].name: node.op_type for node in model.graph.all_nodes()}
    reasons = plan.kept_float.items()
    return [f"{ops.get(name, 'node')} '{name}' stays float: {why}" for name, why in reasons]


def _slower(decision: Decision | None) -> list[str]:
    """Why the float model ships."""
    if decision is None:
        return []
    best = min(time for name, time in decision.times.items() if name != FLOAT)
    costs = decision.costs
    worst = sorted(costs.fused, key=lambda name: costs.in_float[name] - costs.in_int[name])[:3]
    told = (
        f"'{name}' takes {costs.in_int[name]:.0f} microseconds, {costs.in_float[name]:.0f} in float"
        for name in worst
    )
    return [
        f"the model stays float: the best of {len(decision.times) - 1} placements in 8 bits takes "
        f"{best:.2f} of its time; {'; '.join(told)}"
    ]


def _notes(
    shop: Workshop, made: Made | None, planned: int, decision: Decision | None
) -> dict[str, Json]:
    notes: dict[str, Json] = {
        "calibrator": CALIBRATORS.spec(shop.calibrator),
        "profile": PROFILES.spec(shop.profile),
        "samples": shop.seen.samples,
        "planned": planned,
        "fused": 0 if made is None else len(made.plan.units),
    }
    if decision is not None:
        notes["decision"] = decision.to_json()
    if made is not None:
        plan = made.plan
        notes["kernels"] = dict(sorted(made.audit.kernels.items()))
        notes["ranges"] = {name: _ranges(plan, name, shop.histogram(name)) for name in plan.tensors}
        notes["plan"] = plan.to_json()
    return notes


def _ranges(plan: QuantPlan, name: str, histogram: Histogram) -> Json:
    covered = plan.tensors[name].range
    return {
        "observed": [histogram.low, histogram.high],
        "covered": [covered.low, covered.high],
    }
