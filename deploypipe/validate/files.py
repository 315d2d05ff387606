"""Comparing two ONNX files on a target: open, check that they fit, measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploypipe.core.tensors import TensorSpec, fixed_batch
from deploypipe.runtime import Session, Target
from deploypipe.validate.feeds import random_feeds, sample_feeds
from deploypipe.validate.interleave import Opener
from deploypipe.validate.latency import LatencyComparison, compare_latency
from deploypipe.validate.records import Records, Samples, record
from deploypipe.validate.signature import shared_inputs


def compare_file_latency(
    reference: Path,
    candidate: Path,
    target: Target,
    *,
    samples: Samples | None = None,
    batch: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    **how: Any,
) -> LatencyComparison:
    """Latency of two files in turns; on random inputs without ``samples``.

    ``how`` goes to :func:`compare_latency`.

    Raises:
        UserError: a file is no model, or the two do not take and give the same.
        EnvironmentLacks: the target is missing.
    """
    specs = _signature(reference, candidate, target)
    feeds = (
        random_feeds(specs, batch=batch, shapes=shapes)
        if samples is None
        else sample_feeds(samples, fixed_batch(specs) or batch)
    )
    return compare_latency(opener(target, reference), opener(target, candidate), feeds, **how)


def record_files(
    reference: Path, candidate: Path, target: Target, samples: Samples, **how: Any
) -> tuple[Records, Records]:
    """Both files' records of the same samples: the reference's, the candidate's.

    ``how`` goes to :func:`record`.  Raises as :func:`compare_file_latency`, and as :func:`record`.
    """
    _signature(reference, candidate, target)

    def one(path: Path, label: str) -> Records:
        with target.open(path) as session:
            return record(session, samples, label=label, **how)

    return one(reference, "reference"), one(candidate, "candidate")


def opener(target: Target, model: Path | bytes) -> Opener:
    """A fresh session of ``model`` each time."""

    def open_session() -> Session:
        return target.open(model)

    return open_session


def _signature(reference: Path, candidate: Path, target: Target) -> tuple[TensorSpec, ...]:
    with target.open(reference) as first, target.open(candidate) as second:
        return shared_inputs(first, second)
