"""Does a model survive its first answer?  Asked in another process, before this one opens it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from deploypipe.core.tensors import fixed_batch
from deploypipe.runtime import Target
from deploypipe.validate.feeds import sample_feeds
from deploypipe.validate.fresh import Fresh, fresh_target, saved
from deploypipe.validate.interleave import Pace
from deploypipe.validate.latency import CANDIDATE
from deploypipe.validate.records import Samples
from deploypipe.validate.verdict import Check, Outcome
from deploypipe.validate.workers import Crash, Workers

ONCE = Pace(rounds=1, budget_seconds=0.01, warm_calls=1, warm_seconds=0.0)


def first_look(model: Path, target: Target, samples: Samples, batch: int = 1) -> Crash | None:
    """How the model ended a process that opened it and asked for an answer; None if it did not.

    Also None where only this process knows the target.  Raises as opening the model and asking it
    here would.
    """
    spec = fresh_target(target)
    if spec is None:
        return None
    fresh = Fresh({CANDIDATE: str(model)}, Workers(spec))
    fresh.workers.expect(2)
    with tempfile.TemporaryDirectory(prefix="deploypipe-") as folder:
        try:
            told = fresh.signatures()[CANDIDATE]
            size = (told and fixed_batch(told.inputs)) or batch
            feeds = saved(sample_feeds(samples, size, count=1), Path(folder))
            fresh.round([CANDIDATE], feeds, [], ONCE, "")
        except Crash as crash:
            return crash
        finally:
            fresh.workers.expect(0)
    return None


def crash_check(crash: Crash) -> Check:
    """The verdict's one check where there was nothing left to measure."""
    why = str(crash)
    return Check("answers", None, None, None, None, "", Outcome.FAIL, why, "least")
