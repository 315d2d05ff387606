"""Apply corrections one after the other, each only where it brings the outputs nearer.

They are fitted to some of the calibration samples and judged on others.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.core.files import Json
from deploypipe.core.progress import Progress, Silent
from deploypipe.quantize.correction import CORRECTIONS, Correction, DeclinedError, Draft
from deploypipe.quantize.signal import outputs_of, sqnr_db

LEAST_DB = 0.01
"""Less than that is no gain."""
_NOTHING = "there is nothing that it could change"


@dataclass(frozen=True)
class Step:
    """A correction that was tried: SQNR of the outputs, in dB, and what it took."""

    correction: str
    before_db: float
    after_db: float
    accepted: bool
    seconds: float
    reason: str = ""

    def to_json(self) -> Json:
        """All of it; what cannot be told is null."""
        told = asdict(self)
        return {name: None if one != one else one for name, one in told.items()}  # NaN is no JSON


def correct(
    draft: Draft, corrections: Iterable[Correction], progress: Progress | None = None
) -> tuple[Draft, list[Step]]:
    """The corrected draft, and what became of every correction."""
    wanted = sorted(corrections, key=lambda one: one.order)
    if not wanted:
        return draft, []
    judge, steps = _Judge(draft, [one for one in wanted if one.companion]), list[Step]()
    with (progress or Silent()).task("correct", len(wanted)) as task:
        for one in wanted:
            draft, step = _tried(one, draft, judge)
            steps.append(step)
            task.advance(1)
    return draft, steps


def accepts(before: Draft, after: Draft) -> bool:
    """Whether the samples that corrections are judged on prefer the second draft."""
    judge = _Judge(before, ())
    return _is_better(judge(before, alone=False), judge(after, alone=False))


def _tried(one: Correction, draft: Draft, judge: _Judge) -> tuple[Draft, Step]:
    began, name, alone = time.perf_counter(), CORRECTIONS.name_of(one), one.companion
    before, proposal, reason = judge(draft, alone), None, _NOTHING
    try:
        proposal = one.propose(draft)
    except DeclinedError as declined:
        reason = str(declined)
    after = before if proposal is None else judge(proposal, alone)
    accepted = _is_better(before, after, strict=not one.companion)
    if proposal is not None:
        reason = _reason(before, after, accepted)
    step = Step(name, before.db, after.db, accepted, time.perf_counter() - began, reason)
    return (proposal if proposal is not None and accepted else draft), step


def _reason(before: _Verdict, after: _Verdict, accepted: bool) -> str:
    if math.isnan(before.db + after.db):
        return "the outputs' shapes change, so they cannot be compared"
    return "" if accepted else "the outputs come no nearer to the float model's"


@dataclass(frozen=True)
class _Verdict:
    """SQNR of all samples together, and in dB the noise of each one's outputs, mean over them."""

    db: float
    noise: npt.NDArray[np.float64]


def _is_better(before: _Verdict, after: _Verdict, strict: bool = True) -> bool:
    """Whether outputs are nearer; ``strict``: by more than one standard error of few samples.

    What was fitted to as few samples has to show that much; what is exact arithmetic has not.
    """
    gains = before.noise - after.noise
    gains = gains[~np.isnan(gains)]
    error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else 0.0
    mean = gains.mean() if len(gains) else 0.0
    return bool(after.db >= before.db + LEAST_DB and (mean > error or not strict))


class _Judge:
    """How near a draft's outputs are, on the samples that nothing is fitted to.

    What changes weights also moves means, which its companions put right: unless a draft is to be
    judged ``alone``, it has the better of both results.  Alone are the companions themselves: fitted
    to none of the samples that are kept, they are judged on all.  (A sample's gain scatters by 3 dB
    on CIFAR's ResNets: 32 samples cannot see half a dB.)
    """

    def __init__(self, draft: Draft, companions: Sequence[Correction]) -> None:
        seen, self._target, self._companions = draft.shop.seen, draft.shop.target, companions
        self._samples, self._strangers = seen.kept, len(seen.judges)
        (self._expected,) = outputs_of([draft.shop.model], self._samples, self._target)

    def __call__(self, draft: Draft, alone: bool) -> _Verdict:
        proposals = [] if alone else [one.propose(draft) for one in self._companions]
        drafts = [draft, *(one for one in proposals if one is not None)]
        count = len(self._samples) if alone else self._strangers
        return max((self._of(one.made.model, count) for one in drafts), key=lambda one: one.db)

    def _of(self, model: ir.Model, count: int) -> _Verdict:
        expected = self._expected[:count]
        (given,) = outputs_of([model], self._samples[:count], self._target)
        each = [sqnr_db([a], [b]) for a, b in zip(expected, given, strict=True)]
        return _Verdict(sqnr_db(expected, given), -np.array(each))


def told(steps: Sequence[Step]) -> list[str]:
    """A sentence for every correction that was accepted."""
    return [
        f"{one.correction}: outputs {one.after_db - one.before_db:.2f} dB nearer to the float model's"
        for one in steps
        if one.accepted
    ]
