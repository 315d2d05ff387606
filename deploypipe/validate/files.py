"""Comparing two ONNX files on a target: open, check that they fit, measure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploypipe.core.model_parts import ModelParts
from deploypipe.runtime import Session, Target
from deploypipe.validate.alone import alone
from deploypipe.validate.file_experiment import experiment_on
from deploypipe.validate.interleave import Opener
from deploypipe.validate.latency import LatencyComparison
from deploypipe.validate.pairs import Pairs, record_pairs
from deploypipe.validate.records import Samples
from deploypipe.validate.signature import shared_inputs


def compare_file_latency(
    reference: str | Path,
    candidate: str | Path,
    target: Target,
    *,
    speedups: Sequence[float] = (),
    **how: Any,
) -> LatencyComparison:
    """Latency of two files in turns, measured until each of ``speedups`` is reached or refuted.

    One budget of time serves all of them; without any, the first look's worth of rounds is
    measured.  ``how`` goes to :func:`experiment_on`.  Nobody else measures here meanwhile.

    Raises:
        UserError: a file is no model, or the two do not take and give the same.
        EnvironmentLacks: the target is missing.
        Crash: a model ends its process.
    """
    with alone():
        began = time.perf_counter_ns()
        experiment = experiment_on(reference, candidate, target, **how)
        for speedup in speedups:
            experiment.decide(1 / speedup, began=began)
        return experiment.comparison()


def pair_files(
    reference: Path, candidate: Path, target: Target, samples: Samples, **how: Any
) -> Pairs:
    """What both files answer to the same samples.

    ``how`` goes to :func:`record_pairs`.  Raises as it, and as :func:`compare_file_latency`.
    """
    with target.open(reference) as first, target.open(candidate) as second:
        shared_inputs(first, second)
        return record_pairs(first, second, samples, **how)


def opener(target: Target, model: Path | bytes | ModelParts) -> Opener:
    """A fresh session of ``model`` each time."""

    def open_session() -> Session:
        return target.open(model)

    return open_session
