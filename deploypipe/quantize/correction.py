"""What brings a quantized model's outputs nearer to those of its float model, without more bits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import onnx_ir as ir

from deploypipe.core.shelf import Shelf
from deploypipe.quantize.lookout import Arrays, ChannelMean
from deploypipe.quantize.observe import Observation
from deploypipe.quantize.placement import Placement, roots_of
from deploypipe.quantize.plan import QuantPlan, make_plan
from deploypipe.quantize.signal import outputs_of, sqnr_db
from deploypipe.quantize.units import Unit
from deploypipe.quantize.workshop import Made, Workshop


@dataclass(frozen=True)
class Draft:
    """A quantized model under correction: the float model with what was seen of it, and what was
    made of that.  The placement does not change any more, so the audit stays true.

    ``made.model`` is always what would ship, so that whatever is measured on it holds."""

    shop: Workshop
    made: Made

    @property
    def lessons(self) -> Sequence[Arrays]:
        """Single samples that a correction may be fitted to; it is judged on others."""
        return self.shop.seen.lessons

    def sqnr_db(self) -> float:
        """Of the outputs, in dB, on the samples that corrections are judged on; NaN if none of them
        can be compared."""
        models = (self.shop.model, self.made.model)
        expected, given = outputs_of(models, self.shop.seen.judges, self.shop.target)
        return sqnr_db(expected, given)

    def with_plan(self, plan: QuantPlan) -> Draft:
        """The same placement with other numbers."""
        return replace(self, made=replace(self.made, model=self.shop.carry_out(plan), plan=plan))

    def with_model(self, model: ir.Model, seen: Observation) -> Draft:
        """Of a float model with other constants; the plan is made anew, uncorrected."""
        shop, units = replace(self.shop, model=model, seen=seen), self.made.plan.units
        placement = Placement(units, roots_of(units), self.made.plan.kept_float)
        histograms = {name: shop.histogram(name) for name in placement.roots}
        plan = make_plan(model, placement, histograms, shop.calibrator, shop.profile)
        return replace(self, shop=shop).with_plan(plan)


class DeclinedError(Exception):
    """A correction has nothing to offer for a model; the message is the reason."""


class Correction(ABC):
    """One way to lessen what quantization does.  Options are the constructor's parameters."""

    order: ClassVar[int]
    """Corrections run in ascending order: first what changes the float model, then scales, then
    how weights are rounded, then what is left on average."""

    companion: ClassVar[bool] = False
    """Costs nothing, and is to be done again after whatever changes weights: where it is wanted,
    the others are judged together with it."""

    @abstractmethod
    def propose(self, draft: Draft) -> Draft | None:
        """A draft that may be better; None where there is nothing to correct.

        Raises:
            DeclinedError: it cannot tell, for another reason.
        """

    def needs(self, model: ir.Model, units: Iterable[Unit]) -> Collection[ChannelMean]:
        """The channel means that are to be observed along with ranges."""
        return ()


CORRECTIONS: Shelf[Correction] = Shelf("correction", "deploypipe.quantize.corrections", Correction)
