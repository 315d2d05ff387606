"""The whole of it: observe -> plan -> emit -> audit, and again without what did not fuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from deploypipe.core.errors import UserError
from deploypipe.core.files import Json
from deploypipe.core.progress import Progress
from deploypipe.graph import Outcome
from deploypipe.quantize.audit import Audit, audit
from deploypipe.quantize.calibrator import CALIBRATORS, Calibrator
from deploypipe.quantize.emit import emit
from deploypipe.quantize.histogram import Histogram
from deploypipe.quantize.observe import Arrays, Observation, OpenSession, observe
from deploypipe.quantize.placement import Placement, place
from deploypipe.quantize.plan import QuantPlan, make_plan
from deploypipe.quantize.profile import PROFILES, Profile
from deploypipe.quantize.units import find_units

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
    open_session: OpenSession,
    *,
    calibrator: Calibrator,
    profile: Profile,
    progress: Progress | None = None,
    keep_float: Mapping[str, str] | None = None,
    samples: int = 0,
) -> Quantized:
    """A static 8-bit copy of a float32 model.

    Args:
        model: Stays as it is.
        feeds: Calibration batches, input name -> array with the samples along the first dimension;
            read once.
        open_session: Opens a model's bytes on the target, e.g. ``target.open``.
        keep_float: Node name -> reason, for nodes that are not to be quantized.
        samples: How many there are in ``feeds``, for the progress.

    Raises:
        UserError: the model or the samples do not allow it, or no node can be quantized.
    """
    found = find_units(model, profile)
    unknown = sorted(set(keep_float or {}) - {unit.name for unit in found.units})
    if unknown:
        raise UserError(
            f"keep_float names '{unknown[0]}', which is no node that could be quantized"
        )
    placement = place(model, found, keep_float)
    _check_worth(placement)
    tensors = sorted(set(placement.roots.values()))
    seen = observe(model, tensors, feeds, open_session, progress, samples)
    histograms = {name: seen.histograms[root] for name, root in placement.roots.items()}
    kept, planned = dict(keep_float or {}), len(placement.units)
    while True:
        plan = make_plan(model, placement, histograms, calibrator, profile)
        result = emit(model, plan)
        checked = audit(result, plan, open_session)
        if not checked.unfused:
            break
        # Each round keeps at least one more unit in float, so that this ends.
        assert not checked.unfused.keys() <= kept.keys(), "the audit names no unit of the plan"
        kept.update(checked.unfused)
        placement = place(model, found, kept)
        _check_worth(placement)
    notes = _notes(plan, planned, checked, seen, histograms, calibrator, profile)
    return Quantized(result, True, _changes(plan), _refusals(model, plan), [], plan, checked, notes)


def _check_worth(placement: Placement) -> None:
    if not any(unit.kind.has_weight for unit in placement.units):
        raise UserError("no node can run in 8 bits", then=_first_reasons(placement.kept_float))


def _first_reasons(kept: Mapping[str, str]) -> str:
    reasons = [f"'{name}': {why}" for name, why in kept.items()][:3]
    return "Why: " + "; ".join(reasons) if reasons else "It has no Conv, Gemm or MatMul"


def _changes(plan: QuantPlan) -> list[str]:
    counts = Counter(unit.op for unit in plan.units)
    return [f"{count} {op} in 8 bits" for op, count in sorted(counts.items())]


def _refusals(model: ir.Model, plan: QuantPlan) -> list[str]:
    ops = {node.name or node.outputs[0].name: node.op_type for node in model.graph.all_nodes()}
    reasons = plan.kept_float.items()
    return [f"{ops.get(name, 'node')} '{name}' stays float: {why}" for name, why in reasons]


def _notes(
    plan: QuantPlan,
    planned: int,
    checked: Audit,
    seen: Observation,
    histograms: Mapping[str, Histogram],
    calibrator: Calibrator,
    profile: Profile,
) -> dict[str, Json]:
    return {
        "calibrator": CALIBRATORS.spec(calibrator),
        "profile": PROFILES.spec(profile),
        "samples": seen.samples,
        "planned": planned,
        "fused": len(plan.units),
        "kernels": dict(sorted(checked.kernels.items())),
        "ranges": {name: _ranges(plan, name, histograms[name]) for name in plan.tensors},
        "plan": plan.to_json(),
    }


def _ranges(plan: QuantPlan, name: str, histogram: Histogram) -> Json:
    covered = plan.tensors[name].range
    return {
        "observed": [histogram.low, histogram.high],
        "covered": [covered.low, covered.high],
    }
