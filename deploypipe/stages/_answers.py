"""What two ONNX artifacts answer to the same samples: the part of validate that needs no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from deploypipe.core.artifact import Artifact
from deploypipe.core.files import Json
from deploypipe.core.options import build
from deploypipe.core.shelf import OneOf
from deploypipe.core.tensors import fixed_batch
from deploypipe.data import Split
from deploypipe.graph.files import load
from deploypipe.stages import Desk
from deploypipe.validate import METRICS, Metric
from deploypipe.validate.accuracy import AccuracyComparison, accuracy_of
from deploypipe.validate.class_names import check_same_classes
from deploypipe.validate.drift import Drift, drift_of
from deploypipe.validate.feeds import sample_feeds
from deploypipe.validate.inside import OnnxInside
from deploypipe.validate.layers import LayerComparison, compare_layers, shared_names
from deploypipe.validate.metrics.top1 import Top1
from deploypipe.validate.nonfinite import first_nonfinite
from deploypipe.validate.pairs import Pairs, record_pairs
from deploypipe.validate.records_file import Kept, write_records
from deploypipe.validate.signature import shared_inputs


@dataclass(frozen=True)
class Question:
    """Which samples are asked (the first ``samples``, or all), and how the answers are scored."""

    metric: Annotated[Metric, OneOf(METRICS)] = Top1()
    samples: int | None = None
    output: str | None = None

    @classmethod
    def of(cls, options: Mapping[str, Json] | None) -> Question:
        """From options as a recipe's validate step has them.

        Raises:
            UserError: an option is unknown or of the wrong type, or there is no such metric.
        """
        return build(cls, options, "validate")

    def asked(self, split: Split) -> Split:
        """The samples of a split that are asked."""
        return split if self.samples is None else split.first(self.samples)


@dataclass(frozen=True)
class Answers:
    """Both models' answers, sample by sample, and what made the first new NaN."""

    pairs: Pairs
    first_nonfinite: str | None

    def accuracy(self, seed: int) -> AccuracyComparison:
        return accuracy_of(self.pairs, seed=seed)

    def drift(self) -> Drift:
        return drift_of(self.pairs, self.first_nonfinite)

    def values(self) -> tuple[float, float]:
        """The metric of the reference and of the candidate."""
        rows = self.pairs.reference_rows, self.pairs.candidate_rows
        return self.pairs.metric.total(rows[0]), self.pairs.metric.total(rows[1])

    def write(self, path: Path, whole: Split, models: Mapping[str, Json]) -> None:
        """Keep the table; ``whole`` are all samples of the evaluation, which this may be part of."""
        kept = Kept(self.pairs, whole.ids, whole.digest, models, self.first_nonfinite)
        write_records(path, kept)


def ask(
    reference: Artifact, candidate: Artifact, split: Split, question: Question, desk: Desk
) -> Answers:
    """Run both models over the samples of ``split``.

    Raises:
        UserError: the models differ in inputs, outputs or classes, or do not fit data or metric.
    """
    check_same_classes(load(reference.path), load(candidate.path))
    with desk.target.open(reference.path) as first, desk.target.open(candidate.path) as second:
        shared_inputs(first, second)
        pairs = record_pairs(
            first,
            second,
            split,
            metric=question.metric,
            limit=question.samples,
            output=question.output,
            progress=desk.progress,
        )
        size = fixed_batch(second.inputs) or 1
    return Answers(pairs, _culprit(reference, candidate, pairs, split, size, desk))


def _culprit(
    reference: Artifact, candidate: Artifact, pairs: Pairs, split: Split, size: int, desk: Desk
) -> str | None:
    """The node that makes the new NaN of the first sample that has any."""
    if not pairs.new_nonfinite.any():
        return None
    row = int(np.flatnonzero(pairs.new_nonfinite)[0])
    feeds = split.batch([row] * size).inputs
    return first_nonfinite(load(candidate.path), load(reference.path), feeds, desk.target)


def compare_inside(
    reference: Artifact, candidate: Artifact, split: Split, samples: int, desk: Desk
) -> LayerComparison | None:
    """Layer by layer on the first samples; None where no tensor inside has the same name."""
    with desk.target.open(candidate.path) as session:
        size = fixed_batch(session.inputs) or min(samples, len(split))
    there = OnnxInside(load(reference.path), desk.target, size)
    here = OnnxInside(load(candidate.path), desk.target, size)
    if not shared_names(there, here):
        return None
    return compare_layers(there, here, sample_feeds(split, size, count=1))
