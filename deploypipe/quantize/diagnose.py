"""What 8 bits cost, tensor by tensor and unit by unit, and the three worst causes.

Nothing here decides: the model is made, and this says where it lost what.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.core.decibel import powers
from deploypipe.core.files import Json
from deploypipe.graph.constants import constant_of
from deploypipe.quantize.alone import noise_alone
from deploypipe.quantize.costs import Costs
from deploypipe.quantize.emit import emit
from deploypipe.quantize.error import sqnr
from deploypipe.quantize.histogram import Histogram
from deploypipe.quantize.lookout import Arrays, Lookout, digest
from deploypipe.quantize.noise import single
from deploypipe.quantize.plan import QuantPlan, constants_of
from deploypipe.quantize.saturation import Saturation, saturation
from deploypipe.quantize.signal import decibels, incomparable, outputs_of, sqnr_db
from deploypipe.quantize.units import Unit, name_of
from deploypipe.runtime import Target

SAMPLES = 4
"""Calibration samples that units are looked at with."""
SUSPECTS = 5
"""Units, those that lose most alone, whose effect on the model's outputs is measured."""
POOR_DB = 25.0
"""A tensor or weight with less than that is named as the cause of its unit's loss."""


@dataclass(frozen=True)
class TensorLoss:
    """An 8-bit tensor: what was seen, what is covered, the share beyond it, and dB of rounding."""

    low: float
    high: float
    covered_low: float
    covered_high: float
    clipped: float
    sqnr_db: float


@dataclass(frozen=True)
class UnitLoss:
    """An 8-bit unit; dB of its output, microseconds of its kernels.

    ``alone_db`` with float inputs, ``carried_db`` in the whole 8-bit model, ``end_db`` of the model's
    outputs with only this unit in 8 bits (None if it was not measured), ``weight_db`` of its weights.
    """

    op: str
    alone_db: float | None = None
    carried_db: float | None = None
    end_db: float | None = None
    weight_db: float | None = None
    float_us: float | None = None
    int8_us: float | None = None


@dataclass(frozen=True)
class Diagnosis:
    """By name; ``saturation`` of units in which a processor without VNNI would compute otherwise;
    ``causes`` are sentences, the worst first, each with what to do about it."""

    output_db: float
    tensors: Mapping[str, TensorLoss]
    units: Mapping[str, UnitLoss]
    saturation: Mapping[str, Saturation]
    causes: tuple[str, ...]
    incomparable: tuple[str, ...] = ()
    """Outputs that have another shape in 8 bits: no figure is of them."""

    def to_json(self) -> dict[str, Json]:
        """All of it; figures to four digits."""
        return {
            "output_db": _short(self.output_db),
            "tensors": {name: _json(one) for name, one in self.tensors.items()},
            "units": {name: _json(one) for name, one in self.units.items()},
            "saturation_without_vnni": {n: _json(one) for n, one in self.saturation.items()},
            "causes": list(self.causes),
            "incomparable_outputs": list(self.incomparable),
        }


def diagnose(
    model: ir.Model,
    quantized: ir.Model,
    plan: QuantPlan,
    histograms: Mapping[str, Histogram],
    samples: Sequence[Arrays],
    target: Target,
    costs: Costs | None = None,
    pairs_matter: bool = True,
) -> Diagnosis:
    """Look at a quantized model that was made of ``model`` by ``plan``.

    Args:
        model: The float model.
        quantized: What became of it.
        plan: How.
        histograms: Of every 8-bit tensor.
        samples: Inputs to look with; the first few are used.
        target: Where both run.
        costs: Microseconds of the units, if they were measured.
        pairs_matter: Whether to reckon what a processor without VNNI would compute.
    """
    samples = samples[:SAMPLES]
    tensors = {name: _tensor(plan, name, histograms[name]) for name in plan.tensors}
    alone = noise_alone(model, plan, samples, target)
    carried = _carried(model, quantized, plan.units, samples, target)
    suspects = sorted(alone, key=lambda name: alone[name])[:SUSPECTS]
    output, ends, unlike = _ends(model, quantized, plan, suspects, samples, target)
    weights = _weights(model, plan)
    units = {
        unit.name: UnitLoss(
            unit.op,
            alone.get(unit.name),
            carried.get(unit.name),
            ends.get(unit.name),
            weights.get(unit.name),
            costs.in_float.get(unit.name) if costs else None,
            costs.in_int.get(unit.name) if costs else None,
        )
        for unit in plan.units
    }
    found = saturation(model, plan, samples[:2], target) if pairs_matter else {}
    causes = _causes(model, plan, tensors, units, ends, costs)
    return Diagnosis(output, tensors, units, found, tuple(causes), tuple(unlike))


def _tensor(plan: QuantPlan, name: str, histogram: Histogram) -> TensorLoss:
    params = plan.tensors[name]
    covered = params.range
    lower, upper, counts = histogram.bins()
    beyond = counts[(upper > covered.high + params.scale) | (lower < covered.low - params.scale)]
    clipped = float(beyond.sum() / max(histogram.total, 1))
    loss = sqnr(histogram, params)
    return TensorLoss(histogram.low, histogram.high, covered.low, covered.high, clipped, loss)


def _weights(model: ir.Model, plan: QuantPlan) -> dict[str, float]:
    constants, found = constants_of(model), {}
    for unit in plan.units:
        if unit.weight is None:
            continue
        weight = constant_of(constants[unit.weight])
        assert weight is not None
        error = plan.rounded_weight(unit, weight) - weight
        power = float(np.square(weight, dtype=np.float64).sum())
        found[unit.name] = decibels(power, float(np.square(error).sum()))
    return found


def _carried(
    model: ir.Model,
    quantized: ir.Model,
    units: Sequence[Unit],
    samples: Sequence[Arrays],
    target: Target,
) -> dict[str, float]:
    """Unit -> dB of its output in the whole 8-bit model; of a large tensor some values are looked
    at, the same ones in both models.  Left out are samples for which the sizes differ."""
    there = {out.name for node in quantized.graph for out in node.outputs}
    names = {unit.output: unit.name for unit in units if unit.output in there}
    if not names:
        return {}
    total: dict[str, npt.NDArray[np.float64]] = {}
    with (
        Lookout(model, list(names), target) as first,
        Lookout(quantized, list(names), target) as two,
    ):
        for sample in samples:
            number = digest(sample)
            given = {seen.name: seen for seen in two(sample, number)}
            for seen in first(sample, number):
                other = given.get(seen.name)
                if other is None or other.size != seen.size:
                    continue  # of other rows: how many there are depends on the numbers
                unit = names[seen.name]
                both = np.array(powers(seen.picked, other.picked))
                total[unit] = total.get(unit, np.zeros(2)) + both
    return {name: decibels(signal, noise) for name, (signal, noise) in total.items()}


def _ends(
    model: ir.Model,
    quantized: ir.Model,
    plan: QuantPlan,
    suspects: Sequence[str],
    samples: Sequence[Arrays],
    target: Target,
) -> tuple[float, dict[str, float], list[str]]:
    """dB of the outputs with everything in 8 bits, and with each suspect alone where that can be
    told; and the outputs that are in no figure."""
    singles = [emit(model, single(plan, name)) for name in suspects]
    expected, everything, *each = outputs_of([model, quantized, *singles], samples, target)
    ends = {name: sqnr_db(expected, one) for name, one in zip(suspects, each, strict=True)}
    known = {name: end for name, end in ends.items() if not math.isnan(end)}
    return sqnr_db(expected, everything), known, incomparable(expected, everything)


def _causes(
    model: ir.Model,
    plan: QuantPlan,
    tensors: Mapping[str, TensorLoss],
    units: Mapping[str, UnitLoss],
    ends: Mapping[str, float],
    costs: Costs | None,
) -> list[str]:
    """The unit that harms the outputs most, what stays float most, the next worst unit."""
    harmful = [
        _harm(plan, name, tensors, units[name]) for name in sorted(ends, key=ends.__getitem__)
    ]
    floats = _floats(model, plan, costs)
    return [*harmful[:1], *floats[:1], *harmful[1:2], *floats[1:2]][:3]


def _harm(plan: QuantPlan, name: str, tensors: Mapping[str, TensorLoss], loss: UnitLoss) -> str:
    (unit,) = (one for one in plan.units if one.name == name)
    told = f"{unit.op} '{name}' alone leaves the outputs {loss.end_db:.1f} dB"
    own = {one: tensors[one] for one in (*unit.inputs, unit.output) if one in tensors}
    worst = min(own, key=lambda one: own[one].sqnr_db, default=None)
    weight = math.inf if loss.weight_db is None else loss.weight_db
    if worst is None or weight < own[worst].sqnr_db:
        return (
            f"{told}: its weights keep {weight:.1f} dB; try corrections that fit weights, or "
            + ("keep it in float")
        )
    tensor = own[worst]
    seen = f"[{tensor.low:.3g}, {tensor.high:.3g}]"
    if tensor.clipped > 1e-3:
        return (
            f"{told}: {100 * tensor.clipped:.1f} % of '{worst}' lies beyond the range it has; "
            "try calibrator minmax"
        )
    if tensor.sqnr_db < POOR_DB:
        return (
            f"{told}: '{worst}' spans {seen} with most values near zero and keeps "
            f"{tensor.sqnr_db:.1f} dB; try calibrator mse, or keep it in float"
        )
    return f"{told}: '{worst}', in {seen}, keeps {tensor.sqnr_db:.1f} dB, the least of its tensors"


def _floats(model: ir.Model, plan: QuantPlan, costs: Costs | None) -> list[str]:
    """Groups of nodes that stay float for one reason, the largest first."""
    ops = {name_of(node): node.op_type for node in model.graph}
    groups: dict[tuple[str, str], list[str]] = {}
    for name, reason in plan.kept_float.items():
        groups.setdefault((ops.get(name, "node"), reason.split(":")[0]), []).append(name)

    def time(names: Sequence[str]) -> float:
        return sum(costs.in_float.get(name, 0.0) for name in names) if costs else 0.0

    order = sorted(groups.items(), key=lambda item: (time(item[1]), len(item[1])), reverse=True)
    return [_told(op, reason, names, time(names)) for (op, reason), names in order]


def _told(op: str, reason: str, names: Sequence[str], microseconds: float) -> str:
    spent = f", {microseconds:.0f} microseconds," if microseconds else ""
    return f"{len(names)} {op} stay float{spent} because {reason}"


def _json(one: TensorLoss | UnitLoss | Saturation) -> Json:
    return {key: _short(value) for key, value in asdict(one).items()}


def _short(value: object) -> Json:
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return value if isinstance(value, str) else None
