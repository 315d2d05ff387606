"""What the outputs are to keep, and what they keep in the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import onnx_ir as ir

from deploypipe.core.errors import UserError
from deploypipe.core.files import Json
from deploypipe.quantize.correction import Draft
from deploypipe.quantize.job import Job
from deploypipe.quantize.margins import Margins, lead_noise, why_no_answers
from deploypipe.quantize.signal import outputs_of

ALIKE = 99.0
"""Percent of the answers: where fewer are expected to stay, it is a warning."""


class Floor(Protocol):
    """What is to be kept; ``why`` is a clause that says who asks for it."""

    @property
    def why(self) -> str: ...

    def shortfall(self, draft: Draft) -> float:
        """By how many dB noise has to fall, 0 or less where it is kept; NaN where outputs cannot be
        compared."""
        ...


@dataclass(frozen=True)
class LeastSqnr:
    """The outputs keep so many dB."""

    decibels: float

    @property
    def why(self) -> str:
        return f"{self.decibels:g} dB were asked for"

    def shortfall(self, draft: Draft) -> float:
        return self.decibels - draft.sqnr_db()


@dataclass(frozen=True)
class LeastAgreement:
    """So many percent of a classifier's answers are expected to stay, by these margins."""

    percent: float
    margins: Margins

    @property
    def why(self) -> str:
        return f"{self.percent:g} % of the answers are to stay"

    def shortfall(self, draft: Draft) -> float:
        allowed, noise = self.margins.deviation(self.percent / 100), noise_of_leads(draft)
        if noise == 0:
            return -math.inf
        return 20 * math.log10(noise / allowed) if allowed else math.inf


@dataclass(frozen=True)
class Both:
    """One floor and another."""

    floors: Sequence[Floor]

    @property
    def why(self) -> str:
        return " and ".join(floor.why for floor in self.floors)

    def shortfall(self, draft: Draft) -> float:
        return float(np.max([floor.shortfall(draft) for floor in self.floors]))  # NaN if any is


@dataclass
class Nearness:
    """How near the outputs are: JSON for the notes, and sentences."""

    notes: dict[str, Json] = field(default_factory=dict)
    changes: Sequence[str] = ()
    warnings: Sequence[str] = ()


def check_answers(job: Job, model: ir.Model) -> None:
    """Raise a user's error if ``least_agreement`` is asked of a model that has no answers."""
    reason = why_no_answers(model)
    if job.least_agreement is not None and reason:
        raise UserError(
            f"it is for classifiers that give logits, and of this model {reason}",
            where="least_agreement",
            then="Give least_sqnr instead, in dB, or export the logits",
        )


def floor_of(job: Job, margins: Margins | None) -> Floor | None:
    """All that was asked for; None if nothing was.

    Raises:
        UserError: answers are to stay, and no sample has one.
    """
    asked: list[Floor] = [] if job.least_sqnr is None else [LeastSqnr(job.least_sqnr)]
    if job.least_agreement is not None:
        if margins is None:
            told = "no calibration sample has finite outputs [N, classes]"
            raise UserError(told, where="least_agreement", then="Check the samples and the model")
        asked.append(LeastAgreement(job.least_agreement, margins))
    return Both(asked) if len(asked) > 1 else next(iter(asked), None)


def noise_of_leads(draft: Draft) -> float:
    """Of the answers of a draft, in units of the outputs, on the samples that are kept."""
    models, name = (draft.shop.model, draft.made.model), str(draft.shop.model.graph.outputs[0].name)
    expected, given = outputs_of(models, draft.shop.seen.kept, draft.shop.target)
    return lead_noise((a[name], b[name]) for a, b in zip(expected, given, strict=True))


def measure_nearness(draft: Draft, job: Job, floor: Floor | None) -> Nearness:
    """How near a draft is, measured where it was asked for or where the samples have classes."""
    margins = draft.shop.seen.margins
    if floor is None and not (job.classifies and margins is not None):
        return Nearness()
    reached = draft.sqnr_db()
    if math.isnan(reached):
        return Nearness()
    asked: dict[str, Json] = {
        "least_sqnr": job.least_sqnr,
        "least_agreement": job.least_agreement,
    }
    told = f"the outputs keep {reached:.1f} dB"
    if margins is None:
        return Nearness({"sqnr_db": reached, **asked}, [told])
    percent, count = 100 * margins.kept(noise_of_leads(draft)), len(margins.leads)
    expected = (
        f"by the margins of {count} samples {_percent(percent)} of the answers are expected to stay"
    )
    warn = job.classifies and floor is None and percent < ALIKE
    warnings = [f"{expected}; least_agreement keeps more"] if warn else []
    notes: dict[str, Json] = {"sqnr_db": reached, "agreement": percent, **asked}
    return Nearness(notes, [f"{told}; {expected}"], warnings)


def _percent(value: float) -> str:
    """Never rounded up to all."""
    return f"{math.floor(10 * value) / 10:.1f} %"
