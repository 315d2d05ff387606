"""How much noise every unit alone brings to the outputs.

Errors of units are small and nearly independent, so their powers at the outputs add up.  (Dong et al.,
"HAWQ", 2019, arXiv:1905.03696 ranks layers by curvature; here the noise itself is measured.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from deploypipe.quantize.emit import emit
from deploypipe.quantize.lookout import Arrays
from deploypipe.quantize.plan import QuantPlan
from deploypipe.quantize.profile import Kind
from deploypipe.quantize.signal import outputs_of, sqnr_db
from deploypipe.runtime import Target


@dataclass(frozen=True)
class Noise:
    """``power`` is that of the error at the outputs relative to the signal's, with one unit in 8
    bits, by the unit's name; ``together`` with all of them."""

    power: Mapping[str, float]
    together: float

    def to_spare(self, floor_db: float, caution: float = 1.0) -> list[str]:
        """Units to put back so that the others stay below the floor, the noisiest first.

        All of them where errors that are not independent make the sum of powers too small.
        """
        allowed = caution * _power(floor_db)
        left = sum(self.power.values())
        # Where errors do not add up as powers do, scale to what all together do.
        factor = max(1.0, self.together / left) if left > 0 else 1.0
        spared = []
        for name in sorted(self.power, key=self.power.__getitem__, reverse=True):
            if left * factor <= allowed:
                break
            spared.append(name)
            left -= self.power[name]
        return spared


def noise_of(
    model: ir.Model,
    quantized: ir.Model,
    plan: QuantPlan,
    samples: Sequence[Arrays],
    target: Target,
) -> Noise:
    """Measure every unit of ``plan`` alone on ``samples``; ``model`` is the float model.

    One session at a time is open, each for a model with a single unit in 8 bits.
    """
    (expected,) = outputs_of([model], samples, target)

    def power(other: ir.Model) -> float:
        (given,) = outputs_of([other], samples, target)
        return _power(sqnr_db(expected, given))

    units = [unit for unit in plan.units if unit.kind is not Kind.MOVE]
    return Noise(
        {unit.name: power(emit(model, single(plan, unit.name))) for unit in units},
        power(quantized),
    )


def single(plan: QuantPlan, name: str) -> QuantPlan:
    """The plan for one unit."""
    (unit,) = (one for one in plan.units if one.name == name)
    own = {one: plan.tensors[one] for one in (*unit.inputs, unit.output) if one in plan.tensors}
    return replace(plan, units=(unit,), tensors=own, kept_float={})


def _power(decibels: float) -> float:
    return float(10 ** (-decibels / 10))
