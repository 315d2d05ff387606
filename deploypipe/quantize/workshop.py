"""Carrying out placements: plan, emit, audit, again without what did not fuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import onnx_ir as ir

from deploypipe.core.errors import UserError
from deploypipe.quantize.audit import Audit, audit
from deploypipe.quantize.calibrator import Calibrator
from deploypipe.quantize.embeddings import store_tables
from deploypipe.quantize.emit import emit
from deploypipe.quantize.forms import in_forms
from deploypipe.quantize.histogram import Histogram
from deploypipe.quantize.observe import Observation
from deploypipe.quantize.placement import Placement, place
from deploypipe.quantize.plan import QuantPlan, make_plan
from deploypipe.quantize.profile import Profile
from deploypipe.quantize.units import Found
from deploypipe.runtime import Target


@dataclass(frozen=True)
class Made:
    """A placement that was carried out and fused."""

    model: ir.Model
    plan: QuantPlan
    audit: Audit

    @property
    def chosen(self) -> frozenset[str]:
        return frozenset(unit.name for unit in self.plan.units)


@dataclass(frozen=True)
class Workshop:
    """All that it takes to carry out a placement."""

    model: ir.Model
    found: Found
    seen: Observation
    observed: Mapping[str, str]
    """8-bit tensor -> the tensor that was observed for it."""
    calibrator: Calibrator
    profile: Profile
    target: Target
    embeddings: bool = False
    """Whether embedding tables are int8 in what is made."""
    forms: Mapping[str, str] = field(default_factory=dict)
    """Linear unit -> the form that it has in what is made, where it is not in static 8 bits."""

    @cached_property
    def tabled(self) -> tuple[ir.Model, list[str]]:
        """The float model that plans are carried out on, its tables stored; and what was done."""
        return store_tables(self.model) if self.embeddings else (self.model, [])

    @property
    def elsewhere(self) -> str | None:
        """Why nothing can be audited on the target."""
        return self.profile.elsewhere(self.target.provider)

    def histogram(self, name: str) -> Histogram:
        """Of a tensor or of the one whose bytes it shares."""
        return self.seen.histograms[self.observed[name]]

    def carry_out(self, plan: QuantPlan) -> ir.Model:
        """What ships: the plan, with the tables and the linear nodes' forms."""
        made = emit(self.tabled[0], plan)
        return in_forms(made, self.found.units, self.forms, self.profile) if self.forms else made

    def make(self, placement: Placement, kept: Mapping[str, str], follow: bool) -> Made:
        """Carry out and audit, again and again without what did not fuse.

        Raises:
            NothingLeftError: no unit with weights is left, nor one in another form.
        """
        kept = dict(kept)
        while True:
            placement = self._beside_forms(placement)
            histograms = {name: self.histogram(name) for name in placement.roots}
            plan = make_plan(self.model, placement, histograms, self.calibrator, self.profile)
            result = self.carry_out(plan)
            if self.elsewhere:
                return Made(result, plan, Audit({}, {}))
            checked = audit(result, plan, self.target)
            if not checked.unfused:
                return Made(result, plan, checked)
            # Each round keeps at least one more unit in float, so that this ends.
            assert not checked.unfused.keys() <= kept.keys(), "the audit names no unit of the plan"
            kept.update(checked.unfused)
            placement = place(self.model, self.found, kept, follow)

    def _beside_forms(self, placement: Placement) -> Placement:
        """What has another form does not stay float; if nothing else is left, that is enough."""
        if not self.forms:
            check_worth(placement)
            return placement
        reasons = {n: why for n, why in placement.kept_float.items() if n not in self.forms}
        if _has_weights(placement):
            return replace(placement, kept_float=reasons)
        return Placement((), {}, reasons)


class NothingLeftError(UserError):
    """No unit is left to be quantized."""


def check_worth(placement: Placement) -> None:
    """Raise `NothingLeftError` unless a unit with weights is to be quantized."""
    if not _has_weights(placement):
        why = _first_reasons(placement.kept_float)
        raise NothingLeftError("no node can run in 8 bits", then=why)


def _has_weights(placement: Placement) -> bool:
    return any(unit.kind.has_weight for unit in placement.units)


def _first_reasons(kept: Mapping[str, str]) -> str:
    reasons = [f"'{name}': {why}" for name, why in kept.items()][:3]
    return "Why: " + "; ".join(reasons) if reasons else "It has no Conv, Gemm or MatMul"
