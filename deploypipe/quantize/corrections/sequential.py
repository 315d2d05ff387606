"""Sequential bias correction: layer by layer, with the inputs that the quantized layers before give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph.constants import constant_of
from deploypipe.quantize.correction import Correction, Draft
from deploypipe.quantize.corrections.bias import takes_bias
from deploypipe.quantize.plan import QuantPlan, constants_of
from deploypipe.quantize.profile import Kind
from deploypipe.quantize.units import Unit
from deploypipe.quantize.walk import Held, Walk, affordable

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sequential(Correction):
    """Every channel's mean is made that of the float model, layer by layer.

    Nagel et al., "A White Paper on Neural Network Quantization", 2021 (arXiv:2106.08295), section
    3.4.  The quantized model is walked through once: what is taken off a layer's bias is taken
    off its results at once, and the next layer sees them so.  Costs about two inferences of at most
    ``samples`` samples.
    """

    samples: int = 32

    order: ClassVar[int] = 60

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")

    def propose(self, draft: Draft) -> Draft | None:
        """All biases, each fitted to the layers before it."""
        shop, plan = draft.shop, draft.made.plan
        units = [unit for unit in plan.units if takes_bias(unit)]
        if not units:
            return None
        largest = max(one.elements for one in shop.seen.histograms.values())
        samples = affordable(draft.lessons[: self.samples], largest)
        exact = Walk(shop.model, samples, shop.target)
        walk, biases = Walk(draft.made.model, samples, shop.target), Biases(shop.model, plan)
        for unit in units:
            exact.after(unit.result)
            walk.after(unit.result)
            biases.settle(unit, exact.held, walk.held)
        return draft.with_plan(replace(plan, biases=biases.found))


class Biases:
    """Biases that make every channel's mean that of the float model."""

    def __init__(self, model: ir.Model, plan: QuantPlan) -> None:
        self._constants, self.found = constants_of(model), dict(plan.biases)

    def settle(self, unit: Unit, exact: Sequence[Held], given: Sequence[Held]) -> None:
        """Take off what the unit's result is too large by: from its bias, and from what is held."""
        name = unit.result
        if not all(any(one[name].size for one in held) for held in (exact, given)):
            return  # behind a threshold that no sample passed
        shift = channel_mean(unit, given) - channel_mean(unit, exact)
        first = constant_of(self._constants[unit.bias]) if unit.bias else np.zeros(1, np.float32)
        assert first is not None
        now = self.found.get(name, first.reshape(-1))
        # The bias of a MatMul comes after its result, so the result does not show it.
        bias = np.asarray((first.reshape(-1) if unit.op == "MatMul" else now) - shift, np.float32)
        self.found[name] = bias
        for held in given:
            shape = (-1,) if unit.kind is Kind.LINEAR else (-1, *(1,) * (held[name].ndim - 2))
            held[name] = held[name] - (now - bias).reshape(shape)


def channel_mean(unit: Unit, held: Sequence[Held]) -> Floats:
    """float64 [channels]: the mean over the samples of a unit's result, empty ones left out."""
    means = []
    for array in [one[unit.result] for one in held if one[unit.result].size]:
        last = unit.kind is Kind.LINEAR
        axes = tuple(range(array.ndim - 1)) if last else (0, *range(2, array.ndim))
        means.append(array.mean(axis=axes, dtype=np.float64))
    return np.asarray(np.mean(means, axis=0))
