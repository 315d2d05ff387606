"""Scales of weights by the smallest squared error, channel by channel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from deploypipe.graph.constants import constant_of
from deploypipe.quantize.correction import Correction, Draft
from deploypipe.quantize.params import least_scales
from deploypipe.quantize.plan import constants_of
from deploypipe.quantize.units import Unit

Floats = npt.NDArray[np.float32]

_AT_ONCE = 1 << 18
_LEAST_STEPS, _MOST_STEPS, _EVALUATIONS = 8, 64, 4096
_WIDEST = 1.12


@dataclass(frozen=True)
class Clip(Correction):
    """Shrink the scale of each channel's weights where clipping costs less than it saves.

    Of a grid of factors down to ``smallest``, each channel takes the one with the smallest sum of
    squared differences between its weights and what they are rounded to.  Channels of few weights,
    as in a depthwise convolution, try more factors, and some above 1: there a scale can be lucky.
    """

    smallest: float = 0.7

    order: ClassVar[int] = 30

    def __post_init__(self) -> None:
        if not 0 < self.smallest < 1:
            raise ValueError(f"smallest must be in (0, 1), got {self.smallest:g}")

    def propose(self, draft: Draft) -> Draft | None:
        """Other scales for all weights but those whose neighbours' sums are limited."""
        plan, profile = draft.made.plan, draft.shop.profile
        if profile.pair_limit is not None:
            return None
        constants = constants_of(draft.shop.model)
        groups: dict[tuple[str, int], list[Unit]] = {}
        for unit in plan.units:
            if unit.weight is not None:
                groups.setdefault((unit.weight, unit.axis), []).append(unit)
        weights = dict(plan.weights)
        for (name, axis), units in groups.items():
            weight = constant_of(constants[name])
            assert weight is not None
            rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
            scales = np.asarray(weights[units[0].result].scales, np.float32)
            best = self.scales(rows, scales, profile.weight_limit)
            for unit in units:
                bias = plan.biases.get(unit.result)
                if bias is None and unit.bias is not None:
                    bias = constant_of(constants[unit.bias])
                best = np.maximum(best, least_scales(bias, plan.tensors[unit.inputs[0]].scale))
            chosen = tuple(float(one) for one in best.astype(np.float32))
            for unit in units:
                weights[unit.result] = replace(weights[unit.result], scales=chosen)
        return draft.with_plan(replace(plan, weights=weights))

    def scales(self, rows: Floats, scales: Floats, limit: int) -> Floats:
        """float32 [channels]: the best scales for float32 [channels, weights] rows."""
        width = max(rows.shape[1], 1)
        steps = min(max(_EVALUATIONS // width, _LEAST_STEPS), _MOST_STEPS)
        lucky = np.linspace(1, _WIDEST, max(steps // 2, 1))
        clipped = np.linspace(self.smallest, 1, max(steps - len(lucky), 1), endpoint=False)
        factors = np.concatenate([lucky, clipped[::-1]]).astype(np.float32)
        block = max(_AT_ONCE // width, 1)
        parts = [
            _best(rows[i : i + block], scales[i : i + block], factors, limit)
            for i in range(0, len(rows), block)
        ]
        return np.concatenate(parts)


def _best(rows: Floats, scales: Floats, factors: Floats, limit: int) -> Floats:
    best, least = scales.copy(), np.full(len(rows), np.inf, np.float32)
    for factor in factors:
        tried = scales * factor
        rounded = np.rint(rows / tried[:, None])
        np.clip(rounded, -limit, limit, out=rounded)
        rounded *= tried[:, None]
        rounded -= rows
        error = np.einsum("ij,ij->i", rounded, rounded)
        better = error < least
        best[better], least[better] = tried[better], error[better]
    return best
