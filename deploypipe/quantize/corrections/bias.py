"""Bias correction: what rounding the weights adds on average is taken off the bias.

E[conv(x, w8) - conv(x, w)] = conv(E[x], w8 - w)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph.constants import constant_of
from deploypipe.quantize.correction import Correction, Draft
from deploypipe.quantize.lookout import ChannelMean, Means
from deploypipe.quantize.params import row_blocks
from deploypipe.quantize.plan import QuantPlan, constants_of
from deploypipe.quantize.profile import Kind
from deploypipe.quantize.units import Unit

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Bias(Correction):
    """What rounded weights add on average is taken off the bias; costs no inference.

    Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019
    (arXiv:1906.04721), with the means of the calibration samples instead of those of a batch norm.
    """

    order: ClassVar[int] = 50
    companion: ClassVar[bool] = True

    def needs(self, model: ir.Model, units: Iterable[Unit]) -> Collection[ChannelMean]:
        """The channel means of what every unit with weights reads."""
        constants = constants_of(model)
        weighted = [unit for unit in units if unit.weight is not None]
        return [mean_for(unit, constant_of(constants[unit.weight])) for unit in weighted]

    def propose(self, draft: Draft) -> Draft | None:
        """All biases at once, from the means of the float model."""
        biases = corrected_biases(draft.shop.model, draft.made.plan, draft.shop.seen.means)
        return draft.with_plan(replace(draft.made.plan, biases=biases)) if biases else None


def mean_for(unit: Unit, weight: Floats | None) -> ChannelMean:
    """Of the channels that the unit sees in its input: a tensor may have others for another unit."""
    assert weight is not None
    if unit.kind is Kind.CONV:
        return ChannelMean(unit.inputs[0], (0, 0, -1), (0, 2))
    return ChannelMean(unit.inputs[0], (-1, weight.shape[1 - unit.axis]), (0,))


def corrected_biases(model: ir.Model, plan: QuantPlan, means: Means) -> dict[str, Floats]:
    """Unit's result -> float32 [channels] bias, for every unit that has one or can take one."""
    constants = constants_of(model)
    found: dict[str, Floats] = {}
    for unit in plan.units:
        if not takes_bias(unit):
            continue
        weight = constant_of(constants[unit.weight])
        mean = means.get(mean_for(unit, weight))
        if mean is None:
            continue
        bias = constant_of(constants[unit.bias]) if unit.bias else None
        assert weight is not None
        shift = _shift(unit, weight, plan, mean)
        old = np.zeros(len(shift), np.float32) if bias is None else bias.reshape(-1)
        found[unit.result] = (np.broadcast_to(old, shift.shape) - shift).astype(np.float32)
    return found


def takes_bias(unit: Unit) -> bool:
    """A MatMul has no place for a bias that it did not come with."""
    return unit.weight is not None and (unit.kind is Kind.CONV or unit.bias is not None)


def _shift(unit: Unit, weight: Floats, plan: QuantPlan, mean: Floats) -> npt.NDArray[np.float64]:
    """float64 [channels]: by how much rounded weights move the unit's result on average."""
    if unit.kind is Kind.LINEAR:
        return _linear_shift(unit, weight, plan, mean.astype(np.float64))
    error = plan.rounded_weight(unit, weight) - weight.astype(np.float64)
    error = error.reshape(*weight.shape[:2], -1).sum(2)  # [out, in of the group]
    groups = mean.size // weight.shape[1]
    inputs = mean.astype(np.float64).reshape(groups, weight.shape[1])
    parts = np.einsum("goi,gi->go", error.reshape(groups, -1, weight.shape[1]), inputs)
    return np.asarray(parts.reshape(-1))


def _linear_shift(
    unit: Unit, weight: Floats, plan: QuantPlan, mean: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    integers = np.moveaxis(plan.weight_integers(unit, weight), unit.axis, 0)  # [out, in]
    floats = np.moveaxis(weight, unit.axis, 0)
    scales = np.asarray(plan.weights[unit.result].scales, np.float64)[:, None]
    shifts = [(integers[part] * scales[part] - floats[part]) @ mean for part in row_blocks(floats)]
    return np.concatenate(shifts)
