"""The plan: every scale and zero point, decided before anything is edited, as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.core.errors import UserError
from deploypipe.core.files import Json
from deploypipe.graph.constants import constant_of
from deploypipe.quantize.calibrator import Calibrator
from deploypipe.quantize.histogram import Histogram
from deploypipe.quantize.params import (
    QParams,
    WeightParams,
    activation_params,
    quantized_weight,
    weight_params,
)
from deploypipe.quantize.placement import Placement
from deploypipe.quantize.profile import Profile
from deploypipe.quantize.units import Unit


@dataclass(frozen=True)
class QuantPlan:
    """What ``emit`` carries out.

    ``tensors`` are the activations that become 8-bit, ``weights`` the parameters of each unit's
    weight by the unit's ``result``, ``kept_float`` the reason why a node stays float, by its name.
    ``biases`` float32 [channels] replace those of the graph, by the unit's ``result``;
    ``integers`` int8 [shape of the weight] replace weights rounded to nearest.
    """

    units: tuple[Unit, ...]
    tensors: Mapping[str, QParams]
    weights: Mapping[str, WeightParams]
    kept_float: Mapping[str, str]
    biases: Mapping[str, npt.NDArray[np.float32]] = dataclasses.field(default_factory=dict)
    signed: bool = False
    """Activations are stored as int8, 128 less than ``tensors`` says."""
    int32_bias: bool = True
    integers: Mapping[str, npt.NDArray[np.int8]] = dataclasses.field(default_factory=dict)

    def weight_integers(self, unit: Unit, weight: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
        """int8 values of the unit's float ``weight``."""
        given = self.integers.get(unit.result)
        return quantized_weight(weight, self.weights[unit.result]) if given is None else given

    def rounded_weight(
        self, unit: Unit, weight: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float64]:
        """float64: what the unit's float ``weight`` is after rounding."""
        params = self.weights[unit.result]
        shape = [-1 if axis == params.axis else 1 for axis in range(weight.ndim)]
        scales = np.asarray(params.scales, np.float64).reshape(shape)
        return np.asarray(self.weight_integers(unit, weight) * scales)

    def to_json(self) -> Json:
        """All of it as plain JSON; unbounded limits of a unit are null."""
        units = [dataclasses.asdict(unit) for unit in self.units]
        for unit in units:
            unit.update({k: None for k in ("low", "high") if not np.isfinite(unit[k])})
        return {
            "units": units,
            "tensors": {name: dataclasses.asdict(p) for name, p in self.tensors.items()},
            "weights": {name: dataclasses.asdict(p) for name, p in self.weights.items()},
            "kept_float": dict(self.kept_float),
            "corrected_biases": sorted(self.biases),
            "adapted_weights": sorted(self.integers),
        }


def make_plan(
    model: ir.Model,
    placement: Placement,
    histograms: Mapping[str, Histogram],
    calibrator: Calibrator,
    profile: Profile,
) -> QuantPlan:
    """Choose all parameters; ``histograms`` has every tensor of the placement.

    Raises:
        UserError: a weight or bias holds a NaN or an infinity.
    """
    makers = {unit.output: unit for unit in placement.units}
    tensors: dict[str, QParams] = {}
    for name in placement.roots:
        root = placement.roots[name]
        maker = makers.get(root)
        limits = (maker.low, maker.high) if maker else (-np.inf, np.inf)
        chosen = calibrator.range(histograms[root])
        tensors[name] = activation_params(
            chosen, *limits, levels=profile.levels, symmetric=profile.symmetric
        )
    weights = _weights(model, placement.units, tensors, profile)
    return QuantPlan(
        placement.units,
        tensors,
        weights,
        placement.kept_float,
        signed=profile.signed,
        int32_bias=profile.int32_bias,
    )


def constants_of(model: ir.Model) -> dict[str | None, ir.Value]:
    """Name -> value of all initializers and Constant nodes of the main graph."""
    made = [n.outputs[0] for n in model.graph if n.op_type == "Constant"]
    return {value.name: value for value in [*model.graph.initializers.values(), *made]}


def _weights(
    model: ir.Model, units: tuple[Unit, ...], tensors: Mapping[str, QParams], profile: Profile
) -> dict[str, WeightParams]:
    """Per unit; units that share a weight along the same axis share the larger of their scales."""
    constants = constants_of(model)
    found: dict[str, WeightParams] = {}
    shared: dict[tuple[str, int], npt.NDArray[np.float32]] = {}
    weighted = [unit for unit in units if unit.weight is not None]
    for unit in weighted:
        weight = checked_constant(constants, str(unit.weight), unit.op, unit.name)
        bias = None
        if unit.bias is not None:
            bias = checked_constant(constants, unit.bias, unit.op, unit.name)
        scale = tensors[unit.inputs[0]].scale
        one = weight_params(
            weight, unit.axis, profile.weight_limit, bias, scale, profile.pair_limit
        )
        found[unit.result] = one
        key = (str(unit.weight), unit.axis)
        shared[key] = np.maximum(shared.get(key, 0), np.asarray(one.scales, np.float32))
    for unit in weighted:
        scales = shared[str(unit.weight), unit.axis]
        found[unit.result] = dataclasses.replace(
            found[unit.result], scales=tuple(float(s) for s in scales)
        )
    return found


def checked_constant(
    constants: Mapping[str | None, ir.Value], name: str, op: str, node: str
) -> npt.NDArray[np.float32]:
    """A constant's array, as float32; ``op`` and ``node`` are who reads it.

    Raises:
        UserError: it holds a NaN or an infinity.
    """
    array = constant_of(constants[name])
    assert array is not None
    if not np.isfinite(array).all():
        raise UserError(
            f"'{name}' of {op} '{node}' holds a NaN or an infinity",
            then="The model is broken before quantization: train or export it again",
        )
    return np.asarray(array, np.float32)
