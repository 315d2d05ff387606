"""Measure the candidate against the reference, and judge.

Accuracy is paired on the same samples, latency interleaved in one run; every ONNX artifact on the
way is timed and scored as well, so that the report can say what each stage was worth.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np

from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.errors import UserError
from deploypipe.core.files import Json
from deploypipe.core.shelf import OneOf
from deploypipe.core.tensors import fixed_batch
from deploypipe.data import Data
from deploypipe.graph.files import data_files, load
from deploypipe.graph.stats import stats
from deploypipe.runtime import host
from deploypipe.stages import Desk, Stage, Work
from deploypipe.stages._answers import Answers, Question, ask, compare_inside
from deploypipe.stages._contributions import drops
from deploypipe.stages._pictures import pictures
from deploypipe.validate import METRICS, Metric
from deploypipe.validate.experiment import Plan
from deploypipe.validate.feeds import sample_feeds
from deploypipe.validate.file_experiment import LEAST_SECONDS
from deploypipe.validate.files import compare_file_latency, opener
from deploypipe.validate.first_look import crash_check, first_look
from deploypipe.validate.interleave import Pace
from deploypipe.validate.judge import NOT_SLOWER, Comparison, Measured, judge
from deploypipe.validate.latency import LatencyComparison, Timing, time_many
from deploypipe.validate.looks import Looks
from deploypipe.validate.metrics.top1 import Top1
from deploypipe.validate.records import record
from deploypipe.validate.verdict import Budget, Verdict
from deploypipe.validate.workers import Crash

RECORDS = "records.npz"
"""Beside the model: what both models answered, sample by sample."""


@dataclass(frozen=True)
class Validate(Stage):
    """Accuracy, latency, drift, placement; PASS, FAIL or UNDECIDED by the recipe's budget."""

    metric: Annotated[Metric, OneOf(METRICS)] = Top1()
    samples: int | None = None
    batch: int = 1
    rounds: int = 7
    seconds: float = 40.0
    output: str | None = None
    layers: int = 8

    takes: ClassVar[Kind] = Kind.ONNX
    gives: ClassVar[Kind] = Kind.ONNX
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "numpy")
    measures: ClassVar[bool] = True
    judges: ClassVar[bool] = True
    version: ClassVar[int] = 5

    def __post_init__(self) -> None:
        if self.samples is not None and self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")
        if self.batch < 1 or self.rounds < 3 or not 0 < self.seconds < math.inf:
            raise ValueError("batch must be at least 1, rounds at least 3 and seconds positive")
        if self.layers < 0:
            raise ValueError(f"layers must be at least 0 samples, got {self.layers}")

    def work(self, data: Data) -> Work:
        split = data.split("validation")
        if split.labels is None and not self.metric.of_reference:
            raise UserError(
                "the samples of validation have no labels, and accuracy needs them",
                where="data",
                then="Give labels with the samples (in an npz the array 'label'), or take the metric "
                "agreement, which needs none",
            )
        count = len(split) if self.samples is None else self.samples
        if count > len(split):
            raise UserError(
                f"{count} samples were asked for, the validation split has {len(split)}",
                where="validate.samples",
                then="Enlarge data.split.validation, or ask for fewer",
            )
        return Work({"validation": count}, answered=4 * count, seconds=1.3 * self.seconds)

    def scores_labels(self) -> bool:
        return not self.metric.of_reference

    def run(self, source: Artifact, desk: Desk) -> Artifact:
        if desk.reference is None:
            raise UserError("there is no reference to compare with", where="validate")
        if (crash := self._crash(desk.reference, source, desk)) is not None:
            return _crashed(source, desk, crash)
        steps = {"reference": desk.reference, **_onnx_steps(source, desk.reference)}
        labels = list(steps)
        split = desk.data.split("validation")
        asked = self.question.asked(split)
        answers = ask(desk.reference, source, split, self.question, desk)
        rows = self._rows(steps, answers, desk)
        values = {label: self.metric.total(row) for label, row in rows.items()}
        latency = self._compare(desk.reference, source, desk)
        told = drops(answers.pairs, rows, desk.seed)
        before, after = (
            _measured(steps[label], label, values[label], latency)
            for label in (labels[0], labels[-1])
        )
        comparison = Comparison(
            accuracy=answers.accuracy(desk.seed),
            latency=latency,
            drift=answers.drift(),
        )
        verdict = judge(before, after, comparison, Budget.model_validate(dict(desk.budget)))
        assert comparison.accuracy is not None
        assert comparison.drift is not None
        notes = {
            "ledger": _ledger(steps, values, told, self._times(steps, latency, desk)),
            "reference": before.to_json(),
            "candidate": after.to_json(),
            "accuracy": {**comparison.accuracy.to_json(), "samples_digest": asked.digest},
            "drift": comparison.drift.to_json(),
            "pictures": pictures(split, comparison.drift.worst),
            **self._inside(steps, latency, desk),
            "verdict": verdict.to_json(),
            "changes": [],
        }
        path = _pass_through(source.path, desk.out)
        models = {"reference": notes["reference"], "candidate": notes["candidate"]}
        answers.write(desk.out / RECORDS, asked, models)
        return Artifact.of(Kind.ONNX, path, "validate", source, notes, data_files(path).values())

    @property
    def question(self) -> Question:
        """What is asked of every model."""
        return Question(self.metric, self.samples, self.output)

    def _rows(
        self, steps: Mapping[str, Artifact], answers: Answers, desk: Desk
    ) -> dict[str, np.ndarray]:
        """The metric's rows of every step; the first and the last have answered already."""
        labels = list(steps)
        inner = {one: self._inner_rows(steps[one], one, desk) for one in labels[1:-1]}
        first, last = answers.pairs.reference_rows, answers.pairs.candidate_rows
        return {labels[0]: first, **inner, labels[-1]: last}

    def _inner_rows(self, artifact: Artifact, label: str, desk: Desk) -> np.ndarray:
        split = desk.data.split("validation")
        if self.metric.of_reference:
            assert desk.reference is not None
            return ask(desk.reference, artifact, split, self.question, desk).pairs.candidate_rows
        with desk.target.open(artifact.path) as session:
            return record(
                session,
                split,
                metric=self.metric,
                label=label,
                limit=self.samples,
                output=self.output,
                progress=desk.progress,
            ).scores

    def _layers(self, steps: Mapping[str, Artifact], desk: Desk) -> dict[str, Json]:
        """The candidate's layers against those of the step before it, which has the same names."""
        if self.layers == 0:
            return {}
        against, last = list(steps)[-2:]
        split = desk.data.split("validation")
        found = compare_inside(steps[against], steps[last], split, self.layers, desk)
        return {} if found is None else {"against": against, **found.to_json()}

    def _crash(self, reference: Artifact, candidate: Artifact, desk: Desk) -> Crash | None:
        """How a model ends a process of its own, before it can end this one."""
        if self.seconds < LEAST_SECONDS:
            return None
        split = desk.data.split("validation")
        return first_look(candidate.path, desk.target, split, self.batch, reference.path)

    def _compare(
        self, reference: Artifact, candidate: Artifact, desk: Desk
    ) -> LatencyComparison | Crash:
        speedup = Budget.model_validate(dict(desk.budget)).speedup
        try:
            return compare_file_latency(
                reference.path,
                candidate.path,
                desk.target,
                samples=desk.data.split("validation"),
                batch=self.batch,
                plan=Plan(Looks.after(self.rounds), seconds=self.seconds),
                speedups=[NOT_SLOWER, *([speedup] if speedup else [])],
                seed=desk.seed,
                progress=desk.progress,
            )
        except Crash as crash:
            desk.progress.say(f"validate: {crash}")
            return crash

    def _inside(
        self, steps: Mapping[str, Artifact], latency: LatencyComparison | Crash, desk: Desk
    ) -> dict[str, Json]:
        """What more calls of the candidate tell; after a crash, none is made in this process."""
        if isinstance(latency, Crash):
            return {"environment": host()}
        return {
            "latency": latency.to_json(),
            "layers": self._layers(steps, desk),
            **_where_it_ran(list(steps.values())[-1], desk),
            "environment": {**host(), **latency.candidate.environment},
        }

    def _times(
        self, steps: Mapping[str, Artifact], latency: LatencyComparison | Crash, desk: Desk
    ) -> dict[str, Timing]:
        """All steps in turns in one run, in batches as ``latency``; nothing after a crash."""
        if isinstance(latency, Crash):
            return {}
        return time_many(
            {label: opener(desk.target, artifact.path) for label, artifact in steps.items()},
            sample_feeds(desk.data.split("validation"), latency.batch or self.batch),
            Pace(max(3, self.rounds - 2), budget_seconds=self.seconds / 2),
            seed=desk.seed,
            progress=desk.progress,
        )


def _ledger(
    steps: Mapping[str, Artifact],
    values: Mapping[str, float],
    drops: Mapping[str, Mapping[str, Json]],
    timings: Mapping[str, Timing],
) -> list[Json]:
    """One row per ONNX artifact, with its times where there are any."""
    rows = []
    for label, artifact in steps.items():
        timing = timings.get(label)
        times = {} if timing is None else {**timing.to_json(), "step": timing.step_json()}
        row = _row(artifact, label, values[label])
        rows.append({**row, **times, **drops.get(label, {})})
    return rows


def _crashed(source: Artifact, desk: Desk, crash: Crash) -> Artifact:
    """The candidate with the one thing that is known: which model crashed, and how."""
    desk.progress.say(f"validate: {crash}")
    verdict = Verdict((crash_check(crash),))
    notes = {"environment": host(), "verdict": verdict.to_json(), "changes": []}
    path = _pass_through(source.path, desk.out)
    return Artifact.of(Kind.ONNX, path, "validate", source, notes, data_files(path).values())


def _pass_through(model: Path, out: Path) -> Path:
    """The candidate itself goes on unchanged: its files are linked, or copied where links fail."""
    for name, file in {model.name: model, **data_files(model)}.items():
        place = out / name
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            place.hardlink_to(file)
        except OSError:  # another file system, or one without links
            shutil.copyfile(file, place)
    return out / model.name


def _onnx_steps(source: Artifact, reference: Artifact) -> dict[str, Artifact]:
    """The ONNX artifacts that lead to ``source``, first to last, by the step that made them."""
    chain: list[Artifact] = []
    artifact: Artifact | None = source
    while artifact is not None and artifact.kind is Kind.ONNX:
        chain.append(artifact)
        artifact = artifact.parent
    steps: dict[str, Artifact] = {}
    for one in reversed(chain):
        if one.path == reference.path:
            continue
        label, number = one.made_by, 2
        while label in steps:
            label, number = f"{one.made_by}-{number}", number + 1
        steps[label] = one
    return steps or {"candidate": source}


def _row(artifact: Artifact, label: str, value: float) -> dict[str, Json]:
    counted = stats(load(artifact.path))
    return {
        "label": label,
        "bytes": artifact.bytes,
        "parameters": counted.parameters,
        "macs": counted.macs,
        "nodes": counted.nodes,
        "accuracy": value,
    }


def _measured(
    artifact: Artifact, label: str, value: float, latency: LatencyComparison | Crash
) -> Measured:
    side = None
    if not isinstance(latency, Crash):
        side = latency.reference if label == "reference" else latency.candidate
    row = _row(artifact, label, value)
    return Measured(**row, digest=artifact.digest, latency=side)


def _where_it_ran(source: Artifact, desk: Desk) -> dict[str, Json]:
    """Nodes per provider and kernels of the candidate, from the runtime's own profile."""
    with desk.target.open(source.path, profile=True) as session:
        session(sample_feeds(desk.data.split("validation"), fixed_batch(session.inputs) or 1)[0])
        placed = session.placement()
    return {
        "placement": dict(Counter(place.provider for place in placed)),
        "kernels": dict(sorted(Counter(place.op for place in placed).items())),
    }
