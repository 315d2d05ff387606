"""What the outputs are to keep in dB, and what they keep in the end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import onnx_ir as ir

from deploypipe.core.errors import UserError
from deploypipe.core.files import Json
from deploypipe.quantize.correction import Draft
from deploypipe.quantize.job import Job
from deploypipe.quantize.margins import Margins, why_no_answers
from deploypipe.quantize.signal import outputs_of, sqnr_db

ALIKE = 99.0
"""Percent of answers: where fewer are expected to stay, it is told unasked."""


@dataclass
class Kept:
    """JSON for the notes, and sentences."""

    notes: dict[str, Json] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check_floor(job: Job, model: ir.Model) -> None:
    """Raise a user's error if ``least_agreement`` is asked of a model that has no answers."""
    reason = why_no_answers(model)
    if job.least_agreement is not None and reason:
        raise UserError(
            f"least_agreement is for classifiers that give logits, but of this model {reason}",
            then="Give least_sqnr instead, in dB",
        )


def floor_db(job: Job, margins: Margins | None) -> float | None:
    """The dB that are to be kept; None if nothing was asked for."""
    asked = [] if job.least_sqnr is None else [job.least_sqnr]
    if job.least_agreement is not None and margins is not None:
        asked.append(margins.decibels(job.least_agreement / 100))
    return max(asked, default=None)


def kept(draft: Draft, job: Job, least: float | None) -> Kept:
    """How near the outputs are in the end, measured on the samples that corrections are judged on."""
    found, margins = Kept(), draft.shop.seen.margins
    if least is None and margins is None:
        return found
    reached = _sqnr(draft)
    if math.isnan(reached):
        return found
    found.notes = {"sqnr_db": reached, "least_db": least}
    told = f"the outputs keep {reached:.1f} dB"
    if least is not None:
        told += f" of the {least:g} dB that were to be kept"
    if margins is not None:
        percent, count = 100 * margins.kept(reached), len(margins.powers)
        found.notes |= {"agreement": percent, "least_agreement": job.least_agreement}
        expected = f"by the margins of {count} samples {percent:.1f} % of the answers stay"
        told += f": {expected}"
        if job.classifies and job.least_agreement is None and percent < ALIKE:
            found.warnings.append(f"{expected}, the others change; least_agreement keeps more")
    if least is not None or job.classifies:
        found.changes.append(told)
    return found


def _sqnr(draft: Draft) -> float:
    shop = draft.shop
    expected, given = outputs_of([shop.model, draft.made.model], shop.seen.judges, shop.target)
    return sqnr_db(expected, given)
