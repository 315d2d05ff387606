"""Timing whatever is given, one thing or two: files and code in fresh processes, objects here."""

from __future__ import annotations

import shutil
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploypipe.core.errors import UserError
from deploypipe.core.progress import Progress, Silent
from deploypipe.core.tensors import TensorSpec, fixed_batch
from deploypipe.runtime import Feeds, Target
from deploypipe.validate.experiment import Experiment, Plan, Take, here
from deploypipe.validate.feeds import random_feeds, sample_feeds
from deploypipe.validate.fresh import Fresh, fresh_on, saved
from deploypipe.validate.interleave import (
    LEAST_ROUNDS,
    Opener,
    Pace,
    Round,
    Turns,
    interleave,
)
from deploypipe.validate.latency import (
    CANDIDATE,
    REFERENCE,
    TWIN,
    Timing,
    batch_size,
    timing_of,
)
from deploypipe.validate.records import Samples
from deploypipe.validate.signature import Signature, shared_inputs
from deploypipe.validate.subject import opener_of

LEAST_SECONDS = 3.0
"""A shorter decision has no time for processes, and gets fresh sessions in this one."""

MODEL = "model"

Signatures = Mapping[str, Signature | None]


def experiment_on(
    reference: object,
    candidate: object,
    target: Target,
    *,
    samples: Samples | None = None,
    feeds: Sequence[Feeds] | None = None,
    batch: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    plan: Plan | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Experiment:
    """Prepare to time ``candidate`` against ``reference``: files, ``FILE.py:FUNCTION`` or callables.

    Inputs are ``feeds``, else the first batches of ``samples``, else drawn at random.

    Raises:
        UserError: a file is no model, the two do not take and give the same, or nobody says what
            to feed them.
        EnvironmentLacks: the target is missing.
        Crash: a model ends the process that opens it.
    """
    plan, subjects = plan or Plan(), {REFERENCE: reference, CANDIDATE: candidate}
    fresh = _fresh(subjects, target, plan.seconds)
    openers = {label: opener_of(subject, target) for label, subject in subjects.items()}
    if fresh is not None:
        fresh.workers.expect(1 + plan.looks.counts[0])  # one to look at the models
    signatures = _signatures(openers) if fresh is None else fresh.signatures()
    given = list(feeds) if feeds is not None else _feeds(signatures, samples, batch, shapes)
    if not given:
        raise UserError("there is no input to time with", then="Give at least one batch")
    size, progress = batch_size(given[0]), progress or Silent()
    if fresh is None:
        take = here({**openers, TWIN: openers[REFERENCE]}, given, time.perf_counter_ns)
        return Experiment(take, size, "session", plan, seed, progress)
    take, expect = _in_processes(fresh, given), fresh.workers.expect
    return Experiment(take, size, "process", plan, seed, progress, expect=expect)


def time_one(
    subject: object,
    target: Target,
    *,
    samples: Samples | None = None,
    batch: int = 1,
    pace: Pace | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Timing:
    """Time one model, as :func:`experiment_on` times two; raises as that does."""
    pace, subjects = pace or Pace(), {MODEL: subject}
    fresh = _fresh(subjects, target, pace.budget_seconds)
    openers = {MODEL: opener_of(subject, target)}
    if fresh is not None:
        fresh.workers.expect(1 + pace.rounds)
    signatures = _signatures(openers) if fresh is None else fresh.signatures()
    given, groups = _feeds(signatures, samples, batch, None), [Turns((MODEL,))] * pace.blocks
    if fresh is None:
        rounds = interleave(openers, given, groups, pace, seed=seed, progress=progress)
    else:
        rounds = _rounds(fresh, given, groups, pace, seed, progress or Silent())
    return timing_of(rounds, MODEL)


def _rounds(
    fresh: Fresh,
    feeds: Sequence[Feeds],
    groups: Sequence[Turns],
    pace: Pace,
    seed: int,
    progress: Progress,
) -> list[Round]:
    """A process a round; the clock ends them early, but never before three."""
    began, rounds = time.monotonic(), list[Round]()
    with tempfile.TemporaryDirectory(prefix="deploypipe-") as folder:
        file = saved(feeds, Path(folder))
        with progress.task("time", pace.rounds) as task:
            while len(rounds) < pace.rounds:
                rounds.append(fresh.round([MODEL], file, groups, pace, f"{seed}/{len(rounds)}"))
                task.advance(1, f"{rounds[-1].median(MODEL):.3g} ms")
                passed = time.monotonic() - began
                if len(rounds) >= LEAST_ROUNDS and passed > pace.budget_seconds:
                    break
    fresh.workers.expect(0)
    return rounds


def _fresh(subjects: Mapping[str, object], target: Target, seconds: float | None) -> Fresh | None:
    """Fresh processes, where all models have a name and the target can be made anew."""
    named = all(isinstance(subject, str | Path) for subject in subjects.values())
    if not named or (seconds is not None and seconds < LEAST_SECONDS):
        return None
    return fresh_on(target, subjects)


def _in_processes(fresh: Fresh, feeds: Sequence[Feeds]) -> Take:
    folder = Path(tempfile.mkdtemp(prefix="deploypipe-"))
    file = saved(feeds, folder)
    trio = replace(fresh, models={**fresh.models, TWIN: fresh.models[REFERENCE]})

    def take(opened: Sequence[str], groups: Sequence[Turns], pace: Pace, seed: str) -> Round:
        return trio.round(opened, file, groups, pace, seed)

    weakref.finalize(take, shutil.rmtree, folder, ignore_errors=True)
    return take


def _signatures(openers: Mapping[str, Opener]) -> dict[str, Signature | None]:
    with ExitStack() as stack:
        models: dict[str, Any] = {k: stack.enter_context(one()) for k, one in openers.items()}
        return {
            label: Signature(model.inputs, model.outputs) if hasattr(model, "inputs") else None
            for label, model in models.items()
        }


def _feeds(
    signatures: Signatures,
    samples: Samples | None,
    batch: int,
    shapes: Mapping[str, Sequence[int]] | None,
) -> list[dict[str, Any]]:
    specs = _specs(signatures)
    if samples is not None:
        return sample_feeds(samples, fixed_batch(specs or ()) or batch)
    if specs is None:  # code of which nobody knows what it takes: nothing, then
        return [{}]
    return random_feeds(specs, batch=batch, shapes=shapes)


def _specs(signatures: Signatures) -> tuple[TensorSpec, ...] | None:
    known = [one for one in signatures.values() if one is not None]
    if len(known) == 2:
        return shared_inputs(*known)
    return known[0].inputs if known else None
