"""The whole of it: observe -> plan -> emit -> audit -> decide, and again without what did not fuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import onnx_ir as ir

from deploypipe.core.files import Json
from deploypipe.quantize.calibrator import CALIBRATORS
from deploypipe.quantize.correct import Step, correct, told
from deploypipe.quantize.correction import Correction, Draft
from deploypipe.quantize.decide import FLOAT, NEEDED, Decision, Question, Race, decide
from deploypipe.quantize.diagnose import Diagnosis, diagnose
from deploypipe.quantize.forms import counted, in_forms
from deploypipe.quantize.histogram import Histogram
from deploypipe.quantize.job import Job
from deploypipe.quantize.lookout import ChannelMean
from deploypipe.quantize.observe import Observation, observe
from deploypipe.quantize.opset import modern
from deploypipe.quantize.placement import Placement, place
from deploypipe.quantize.plan import QuantPlan
from deploypipe.quantize.profile import PROFILES
from deploypipe.quantize.quantized import Quantized, why_float
from deploypipe.quantize.repair import repaired
from deploypipe.quantize.saturation import warning
from deploypipe.quantize.units import find_units
from deploypipe.quantize.workshop import Made, NothingLeftError, Workshop, check_worth

FEW = 8
"""Fewer samples than that get a warning."""


def quantize_model(model: ir.Model, job: Job) -> Quantized:
    """A static 8-bit copy of a float32 model, which stays as it is.

    Raises:
        UserError: the model or the samples do not allow it, or no node can be quantized.
    """
    job, unheard = job.settled()
    modern_model, converted = modern(model, job.profile.min_opset)
    found = find_units(modern_model, job.profile)
    job.check_names(unit.name for unit in found.units)
    placement = place(modern_model, found, job.keep_float)
    check_worth(placement)
    # A cut may choose any unit, so the tensors of all are observed where there will be one.
    wanted = place(modern_model, found, job.keep_float, follow=False) if job.race else placement
    seen = _observed(modern_model, wanted, job)
    shop = Workshop(
        modern_model, found, seen, wanted.roots, job.calibrator, job.profile, job.target
    )
    eager = shop.make(placement, job.keep_float, follow=True)
    decision, made = _decided(shop, eager, wanted, job, job.race) if job.race else (None, eager)
    if made is None:
        done = _without_static(shop, model, decision, len(placement.units))
    else:
        better = _improved(Draft(shop, made), job)
        if not better:
            return _too_noisy(model, job.least_sqnr)
        done = _finished(better[0], decision, len(placement.units), better[1], job.diagnosis)
        done.refusals += _warnings(shop, unheard)
    done.changes[:0] = converted if done.modified else []
    return done


def _observed(model: ir.Model, wanted: Placement, job: Job) -> Observation:
    """Of every tensor that may become 8-bit, and the means that corrections ask for."""
    tensors = sorted(set(wanted.roots.values()))
    means = _means(model, wanted, job.corrections)
    floored = {unit.output for unit in wanted.units if unit.low >= 0}

    def look() -> Observation:
        feeds, target = job.feeds, job.target
        return observe(model, tensors, feeds, target, job.progress, job.samples, means, floored)

    if job.memory is None:
        return look()
    return job.memory.observed(model, tensors, means, job.target.provider, look)


def _improved(first: Draft, job: Job) -> tuple[Draft, list[Step]] | None:
    """Corrected, and with units put back if the outputs need it; None if that leaves nothing."""
    draft, steps = correct(first, job.corrections, job.progress)
    if job.least_sqnr is None:
        return draft, steps
    found = repaired(first, draft, job.least_sqnr, job.corrections, job.progress)
    if found is None or (found[0] is not draft and not _still_faster(found[0], job.race)):
        return None
    return found[0], [*steps, *found[1]]


def _still_faster(draft: Draft, race: Race | None) -> bool:
    """Whether what is left in 8 bits is worth it; always, if no time is taken."""
    if race is None:
        return True
    models = {FLOAT: draft.shop.model, "repaired": draft.made.model}
    times = race(models, draft.shop.seen.probes)
    return times["repaired"] <= NEEDED


def _too_noisy(model: ir.Model, least_sqnr: float | None) -> Quantized:
    told = (
        f"the model stays float: with all units in float that the outputs need to keep "
        f"{least_sqnr:g} dB, nothing is gained"
    )
    return Quantized(model.clone(), False, [], [told], [])


def _without_static(
    shop: Workshop, model: ir.Model, decision: Decision | None, planned: int
) -> Quantized:
    """Nothing is in static 8 bits: linear nodes in other forms, or the float model as it came."""
    notes = _notes(shop, None, planned, decision)
    result, ways = _in_forms(shop, shop.model, decision)
    if ways:
        return Quantized(result, True, ways, [], [], notes=notes)
    return Quantized(model.clone(), False, [], _slower(decision), [], notes=notes)


def _means(
    model: ir.Model, wanted: Placement, corrections: Sequence[Correction]
) -> dict[str, ChannelMean]:
    """The channel means that corrections ask for, of the tensors that are observed anyway."""
    observed = set(wanted.roots.values())
    needs = [one.needs(model, wanted.units) for one in corrections]
    return {name: mean for each in needs for name, mean in each.items() if name in observed}


def _finished(
    draft: Draft, decision: Decision | None, planned: int, steps: Sequence[Step], diagnosis: bool
) -> Quantized:
    """What ships, its linear nodes in the forms that were decided."""
    shop, made = draft.shop, draft.made
    notes = _notes(shop, made, planned, decision)
    notes["corrections"] = [step.to_json() for step in steps]
    forms = {} if decision is None else decision.forms
    kept = {name: why for name, why in made.plan.kept_float.items() if name not in forms}
    refusals = why_float(shop.model, kept)
    if diagnosis:
        looked = _diagnosed(shop, made, decision)
        notes["diagnosis"] = looked.to_json()
        refusals += warning(looked.saturation)
    result, ways = _in_forms(shop, made.model, decision)
    changes = [*_changes(made.plan), *ways, *told(steps)]
    return Quantized(result, True, changes, refusals, [], made.plan, made.audit, notes)


def _in_forms(
    shop: Workshop, model: ir.Model, decision: Decision | None
) -> tuple[ir.Model, list[str]]:
    """The model with the forms that were decided for its linear nodes, and a sentence for each."""
    forms = {} if decision is None else decision.forms
    if not forms:
        return model, []
    units = shop.found.units
    return in_forms(model, units, forms, shop.profile), counted(forms, units)


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
    shop: Workshop, made: Made, wanted: Placement, job: Job, race: Race
) -> tuple[Decision, Made | None]:
    """The placement that is fastest here, its float units with the reason."""

    def kept_without(chosen: Collection[str], reason: Callable[[str], str]) -> dict[str, str]:
        others = {unit.name for unit in wanted.units} - set(chosen)
        return {**job.keep_float, **{name: reason(name) for name in others}}

    def make(chosen: frozenset[str]) -> Made | None:
        kept = kept_without(chosen, lambda _: "float is faster")
        try:
            return shop.make(place(shop.model, shop.found, kept, follow=False), kept, follow=False)
        except NothingLeftError:  # without their neighbours they did not fuse
            return None

    eager = shop.make(wanted, job.keep_float, follow=False)
    sizes = {name: shop.histogram(name).elements for name in shop.observed}
    units, probes, target = wanted.units, shop.seen.probes, shop.target
    decision, best = decide(
        Question(shop.model, units, made, eager, sizes, probes, target, shop.profile, make), race
    )
    if best is None or best is made:
        return decision, best
    kept = {**best.plan.kept_float, **kept_without(best.chosen, decision.reason)}
    return decision, replace(best, plan=replace(best.plan, kept_float=kept))


def _diagnosed(shop: Workshop, made: Made, decision: Decision | None) -> Diagnosis:
    return diagnose(
        shop.model,
        made.model,
        made.plan,
        {name: shop.histogram(name) for name in made.plan.tensors},
        shop.seen.probes,
        shop.target,
        None if decision is None else decision.costs,
        pairs_matter=shop.profile.pair_limit is None and not shop.profile.signed,
    )


def _changes(plan: QuantPlan) -> list[str]:
    counts = Counter(unit.op for unit in plan.units)
    return [f"{count} {op} in 8 bits" for op, count in sorted(counts.items())]


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
