"""The whole of it: observe -> plan -> emit -> audit -> decide, and again without what did not fuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import onnx_ir as ir

from deploypipe.core.files import Json
from deploypipe.quantize.calibrator import CALIBRATORS
from deploypipe.quantize.correct import Step, correct, told
from deploypipe.quantize.correction import Correction, Draft
from deploypipe.quantize.decide import FLOAT, NEEDED, Decision, Question, Race, decide
from deploypipe.quantize.diagnose import Diagnosis, diagnose
from deploypipe.quantize.floor import Floor, check_answers, floor_of, measure_nearness
from deploypipe.quantize.forms import counted
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
from deploypipe.quantize.signal import incomparable, outputs_of
from deploypipe.quantize.sparing import Sparing, cheapest_at, noisiest
from deploypipe.quantize.units import find_units
from deploypipe.quantize.workshop import Made, NothingLeftError, Workshop, check_worth

FEW = 8
"""Fewer samples than that get a warning."""

SPARING_BORDERS = (1.0, 4.0)
"""How dear conversions are taken to be where units go back for accuracy; both race."""


def quantize_model(model: ir.Model, job: Job, embeddings: bool = False) -> Quantized:
    """A static 8-bit copy of a float32 model, which stays as it is; ``embeddings`` are its tables.

    Raises:
        UserError: the model or the samples do not allow it, or no node can be quantized.
    """
    job, unheard = job.settled(model)
    modern_model, converted = modern(model, job.profile.min_opset)
    found = find_units(modern_model, job.profile)
    job.check_names(unit.name for unit in found.units)
    check_answers(job, modern_model)
    placement = place(modern_model, found, job.keep_float)
    check_worth(placement)
    # A cut may choose any unit, and so may a repair: then the tensors of all are observed.
    any_unit = any((job.race, job.least_sqnr is not None, job.least_agreement is not None))
    wanted = place(modern_model, found, job.keep_float, follow=False) if any_unit else placement
    seen = _observed(modern_model, wanted, job)
    shop = Workshop(
        modern_model, found, seen, wanted.roots, job.calibrator, job.profile, job.target, embeddings
    )
    eager = shop.make(placement, job.keep_float, follow=True)
    decision, draft = (
        _decided(shop, eager, wanted, job, job.race) if job.race else (None, Draft(shop, eager))
    )
    floor = floor_of(job, seen.margins)
    draft, steps, reasons = (
        (None, [], _slower(decision)) if draft is None else _improved(draft, job, decision, floor)
    )
    notes = _notes(shop, draft, len(placement.units), decision, steps)
    warnings = _warnings(shop, unheard)
    if draft is None:
        return Quantized(model.clone(), False, [], [*reasons, *warnings], [], notes=notes)
    done, near = _shipped(draft, decision, steps, notes, job), measure_nearness(draft, job, floor)
    done.changes[:] = [*converted, *done.changes, *near.changes]
    done.refusals += [*reasons, *near.warnings, *warnings]
    notes["outputs"] = near.notes
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


def _improved(
    first: Draft, job: Job, decision: Decision | None, floor: Floor | None
) -> tuple[Draft | None, list[Step], list[str]]:
    """Corrected, and with units put back if the outputs need it; no draft if that leaves nothing.

    Beside it the steps, and sentences about what else is float.
    """
    draft, steps = correct(first, job.corrections, job.progress)
    if floor is None:
        return draft, steps, []
    ways: list[Sparing] = [noisiest]
    if decision is not None and not first.shop.forms and not first.shop.tabled[1]:
        ways = [cheapest_at(decision.costs, border) for border in SPARING_BORDERS]
    found = repaired(first, draft, floor, job.corrections, ways, job.progress)
    if any(one is draft for one, _ in found):
        return draft, steps, []
    best = _fastest(found, job.race)
    if best is None:
        return None, steps, [_too_noisy(draft, floor)]
    refused = []
    if first.shop.tabled[1] and not best[0].shop.embeddings:
        refused.append(
            f"embedding tables stay float: with them in 8 bits it is less, and {floor.why}"
        )
    return best[0], [*steps, *best[1]], refused


def _fastest(
    found: Sequence[tuple[Draft, list[Step]]], race: Race | None
) -> tuple[Draft, list[Step]] | None:
    """The fastest draft if what is left in 8 bits is worth it; the first, if no time is taken."""
    if race is None or not found:
        return next(iter(found), None)
    shop = found[0][0].shop
    named = {"repaired" if i == 0 else f"repaired {i + 1}": one for i, one in enumerate(found)}
    models = {name: draft.made.model for name, (draft, _) in named.items()}
    times = race({FLOAT: shop.model, **models}, shop.seen.probes)
    best = min(named, key=lambda name: times[name])
    return named[best] if times[best] <= NEEDED else None


def _too_noisy(draft: Draft, floor: Floor) -> str:
    seen, shop = draft.shop.seen, draft.shop
    expected, given = outputs_of([shop.model, draft.made.model], seen.judges, shop.target)
    unlike = incomparable(expected, given)
    if unlike:
        return f"the model stays float: {floor.why}, and {_unlike(unlike)}"
    return (
        f"the model stays float: {floor.why}, and nothing is gained any more once all units that "
        "this takes are float"
    )


def _unlike(names: Sequence[str]) -> str:
    return f"the shape of {', '.join(repr(name) for name in names)} changes with the rounding"


def _means(
    model: ir.Model, wanted: Placement, corrections: Sequence[Correction]
) -> list[ChannelMean]:
    """The channel means that corrections ask for, of the tensors that are observed anyway."""
    observed = set(wanted.roots.values())
    needs = [mean for one in corrections for mean in one.needs(model, wanted.units)]
    return [mean for mean in dict.fromkeys(needs) if mean.tensor in observed]


def _shipped(
    draft: Draft,
    decision: Decision | None,
    steps: Sequence[Step],
    notes: dict[str, Json],
    job: Job,
) -> Quantized:
    """What is handed out of a draft, with all that is to be told of it."""
    shop, made = draft.shop, draft.made
    refusals = why_float(shop.model, made.plan.kept_float)
    if job.diagnosis:
        looked = _diagnosed(draft, decision)
        notes["diagnosis"] = looked.to_json()
        refusals += warning(looked.saturation, shop.profile.pair_limit)
        if looked.incomparable:
            refusals.append(f"{_unlike(looked.incomparable)}: it is part of no figure in dB")
    ways = [*counted(shop.forms, shop.found.units), *shop.tabled[1]]
    changes = [*_changes(made.plan), *ways, *told(steps)]
    return Quantized(made.model, True, changes, refusals, [], made.plan, made.audit, notes)


def _warnings(shop: Workshop, unheard: str | None) -> list[str]:
    """What may be less than the user thinks."""
    told = []
    count = shop.seen.samples
    if count < FEW:
        told.append(
            f"only {count} sample{'s were' if count > 1 else ' was'} observed: ranges may be too narrow "
            "for others; give 100"
        )
    if unheard is not None:
        told.append(f"no time was taken with profile {PROFILES.name_of(shop.profile)}: {unheard}")
    return told


def _decided(
    shop: Workshop, made: Made, wanted: Placement, job: Job, race: Race
) -> tuple[Decision, Draft | None]:
    """What is fastest here, its float units with the reason; no draft if that is the float model."""

    def kept_without(chosen: Collection[str], reasons: Mapping[str, str]) -> dict[str, str]:
        others = [unit.name for unit in wanted.units if unit.name not in chosen]
        return {**job.keep_float, **{one: reasons.get(one, "it is among floats") for one in others}}

    def make(chosen: frozenset[str]) -> Made | None:
        kept = kept_without(chosen, {})
        try:
            return shop.make(place(shop.model, shop.found, kept, follow=False), kept, follow=False)
        except NothingLeftError:  # without their neighbours they did not fuse
            return None

    eager = shop.make(wanted, job.keep_float, follow=False)
    sizes = {name: shop.histogram(name).elements for name in shop.observed}
    base, units, probes, target = shop.tabled[0], wanted.units, shop.seen.probes, shop.target
    decision, best = decide(
        Question(shop.model, base, units, made, eager, sizes, probes, target, shop.profile, make),
        race,
    )
    if decision.winner == FLOAT:
        return decision, None
    if best is made:
        return decision, Draft(shop, made)
    chosen = frozenset[str]() if best is None else best.chosen
    kept = kept_without(chosen, decision.reasons(eager.plan.kept_float))
    formed = replace(shop, forms=decision.forms)
    placement = place(shop.model, shop.found, kept, follow=False)
    return decision, Draft(formed, formed.make(placement, kept, follow=False))


def _diagnosed(draft: Draft, decision: Decision | None) -> Diagnosis:
    shop, made = draft.shop, draft.made
    return diagnose(
        shop.model,
        made.model,
        made.plan,
        {name: shop.histogram(name) for name in made.plan.tensors},
        shop.seen.probes,
        shop.target,
        None if decision is None else decision.costs,
        pairs_matter=not shop.profile.signed,
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
        f"'{name}' takes {costs.in_int[name]:.0f} microseconds in 8 bits, "
        f"{costs.in_float[name]:.0f} in float"
        for name in worst
    )
    tried = len(decision.times) - 1
    how = "the only way" if tried == 1 else f"the best of {tried} ways"
    return [
        f"the model stays float: in 8 bits it takes {best:.2f} of its time, {how} that was tried; "
        f"{'; '.join(told)}",
        "for fewer bytes all the same: quantize --everything (decide: false), or --method weight-only",
    ]


def _notes(
    shop: Workshop,
    draft: Draft | None,
    planned: int,
    decision: Decision | None,
    steps: Sequence[Step],
) -> dict[str, Json]:
    notes: dict[str, Json] = {
        "calibrator": CALIBRATORS.spec(shop.calibrator),
        "profile": PROFILES.spec(shop.profile),
        "samples": shop.seen.samples,
        "planned": planned,
        "fused": 0 if draft is None else len(draft.made.plan.units),
    }
    if decision is not None:
        notes["decision"] = decision.to_json()
    if draft is not None or steps:
        notes["corrections"] = [step.to_json() for step in steps]
    if draft is not None:
        plan, shop = draft.made.plan, draft.shop
        notes["kernels"] = dict(sorted(draft.made.audit.kernels.items()))
        notes["ranges"] = {name: _ranges(plan, name, shop.histogram(name)) for name in plan.tensors}
        notes["plan"] = plan.to_json()
    return notes


def _ranges(plan: QuantPlan, name: str, histogram: Histogram) -> Json:
    covered = plan.tensors[name].range
    return {
        "observed": [histogram.low, histogram.high],
        "covered": [covered.low, covered.high],
    }
