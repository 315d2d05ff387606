"""What the outputs are to keep, and what they keep in the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from deploypipe.core.errors import UserError
from deploypipe.core.files import Json
from deploypipe.quantize.correction import Draft
from deploypipe.quantize.job import Job
from deploypipe.quantize.margins import Margins, why_no_answers

ALIKE = 99.0
"""Percent of the answers: where fewer are expected to stay, it is a warning."""


@dataclass(frozen=True)
class Floor:
    """The least SQNR of the outputs, in dB, and the clause that says who asks for it."""

    decibels: float
    why: str


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
    """The higher of what was asked for; None if nothing was.

    Raises:
        UserError: answers are to stay, and no sample has one.
    """
    asked = list[Floor]()
    if job.least_sqnr is not None:
        asked.append(Floor(job.least_sqnr, f"{job.least_sqnr:g} dB were asked for"))
    if job.least_agreement is not None:
        if margins is None:
            told = "no calibration sample has finite outputs [N, classes]"
            raise UserError(told, where="least_agreement", then="Check the samples and the model")
        needed, share = margins.decibels(job.least_agreement / 100), f"{job.least_agreement:g} %"
        why = f"{share} of the answers need {needed:g} dB"
        if math.isinf(needed):
            why = f"too many of {len(margins.powers)} samples are ties for {share} of the answers"
        asked.append(Floor(needed, why))
    return max(asked, key=lambda floor: floor.decibels, default=None)


def measure_nearness(draft: Draft, job: Job, floor: Floor | None) -> Nearness:
    """Measured on the samples that corrections are judged on, where it was asked for or where the
    samples have classes."""
    margins = draft.shop.seen.margins
    if floor is None and not (job.classifies and margins is not None):
        return Nearness()
    reached = draft.sqnr_db()
    if math.isnan(reached):
        return Nearness()
    notes: dict[str, Json] = {"sqnr_db": reached, "least_db": floor and floor.decibels}
    told = f"the outputs keep {reached:.1f} dB" + (f": {floor.why}" if floor else "")
    if margins is None:
        return Nearness(notes, [told])
    percent, count = 100 * margins.kept(reached), len(margins.powers)
    notes |= {"agreement": percent, "least_agreement": job.least_agreement}
    expected = (
        f"by the margins of {count} samples {percent:.1f} % of the answers are expected to stay"
    )
    warn = job.classifies and floor is None and percent < ALIKE
    warnings = [f"{expected}; least_agreement keeps more"] if warn else []
    return Nearness(notes, [f"{told}; {expected}"], warnings)
