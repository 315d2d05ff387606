"""Do two models fit, and does each survive its first answer?  Asked in other processes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from deploypipe.core.tensors import fixed_batch
from deploypipe.runtime import Target
from deploypipe.validate.feeds import sample_feeds
from deploypipe.validate.fresh import fresh_on, saved
from deploypipe.validate.interleave import Pace
from deploypipe.validate.judge_latency import blame
from deploypipe.validate.latency import CANDIDATE, REFERENCE
from deploypipe.validate.records import Samples
from deploypipe.validate.signature import shared_inputs
from deploypipe.validate.verdict import Check
from deploypipe.validate.workers import Crash

ONCE = Pace(rounds=1, budget_seconds=0.01, warm_calls=1, warm_seconds=0.0)


def first_look(
    candidate: Path, target: Target, samples: Samples, batch: int = 1, reference: Path | None = None
) -> Crash | None:
    """How a model ended a process that opened it and asked for an answer; None if none did.

    Also None where only this process knows the target.  Raises as opening the models and asking
    them here would, and where they do not take and give the same.
    """
    models = {} if reference is None else {REFERENCE: reference}
    fresh = fresh_on(target, {**models, CANDIDATE: candidate})
    if fresh is None:
        return None
    fresh.workers.expect(1 + len(fresh.models))
    with tempfile.TemporaryDirectory(prefix="deploypipe-") as folder:
        try:
            told = fresh.signatures()
            first, second = told.get(REFERENCE), told[CANDIDATE]
            if first is not None and second is not None:
                shared_inputs(first, second)
            size = (second and fixed_batch(second.inputs)) or batch
            feeds = saved(sample_feeds(samples, size, count=1), Path(folder))
            for label in fresh.models:  # the reference first: what both do is not the candidate's
                fresh.round([label], feeds, [], ONCE, "")
        except Crash as crash:
            return crash
        finally:
            fresh.workers.expect(0)
    return None


def crash_check(crash: Crash) -> Check:
    """The verdict's one check where there was nothing left to measure."""
    return Check("answers", None, None, None, None, "", blame(crash), str(crash), "least")
