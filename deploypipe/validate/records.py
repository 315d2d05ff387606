"""What a model answers, sample by sample: everything else is a function of these records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from deploypipe.core.errors import UserError
from deploypipe.core.progress import Progress, Silent
from deploypipe.core.tensors import fixed_batch
from deploypipe.data import Batch
from deploypipe.runtime import Feeds, Session
from deploypipe.validate import METRICS, Metric

KEEP_BYTES = 64 * 2**20
"""Raw outputs of a model that are kept in memory for measuring drift."""


_OTHER = (
    "Choose a metric that fits (deploypipe list metric), name another output, or mend the labels"
)


class Samples(Protocol):
    """What is asked of a :class:`deploypipe.data.Split`."""

    @property
    def name(self) -> str: ...
    def __len__(self) -> int: ...
    def batches(self, size: int, limit: int | None = None) -> Iterable[Batch]: ...


@dataclass(frozen=True)
class Records:
    """What a model answered, sample by sample; N samples.

    ``outputs`` float32 [kept, ...] holds the raw outputs of the first samples, as many as fit.
    ``predictions`` is None where the metric knows no classes.  ``scores`` float64 [N] or [N, k] are
    the metric's rows.
    """

    label: str
    metric: Metric
    ids: tuple[str, ...]
    labels: np.ndarray
    predictions: np.ndarray | None
    scores: np.ndarray
    outputs: np.ndarray = field(repr=False)
    nonfinite: np.ndarray
    """int64 [N]: values that are NaN or infinity in all outputs of the model, scored or not."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def value(self) -> float:
        """The metric: a share in 0..1 for right/wrong metrics."""
        return self.metric.total(self.scores)


def record(
    session: Session,
    samples: Samples,
    *,
    metric: Metric | None = None,
    label: str = "",
    batch: int = 64,
    limit: int | None = None,
    output: str | None = None,
    labelled: bool = True,
    keep_bytes: int = KEEP_BYTES,
    progress: Progress | None = None,
) -> Records:
    """Run a model over samples.

    Args:
        session: The model; its batch size counts where it is fixed.
        samples: A split.
        metric: Default top1.
        label: For messages: which model this is.
        batch: Samples a run.
        limit: Only the first so many.
        output: Which output is scored; default the first.
        labelled: False needs no labels; the scores are NaN, predictions and outputs are there.
        keep_bytes: Raw outputs to keep.
        progress: Told after each batch.

    Raises:
        UserError: no labels, a label that is NaN or no class, inputs or outputs that do not fit.
    """
    metric = metric or METRICS.build("top1")
    if labelled and metric.of_reference:
        name = METRICS.name_of(metric)
        raise UserError(f"{name} is of two models, and here is one", where="metric")
    scored = output_name(session, output, label or "the model")
    size = fixed_batch(session.inputs) or batch
    parts: list[Records] = []
    room, where = keep_bytes, label or samples.name
    with (progress or Silent()).task(f"answers {label}".strip(), limit or len(samples)) as task:
        for one in samples.batches(size, limit):
            if labelled:
                check_labels(one, samples.name)
            answers = answer(session, one.inputs, len(one.ids), size)
            broken = nonfinite_values(answers, len(one.ids))
            parts.append(score_batch(answers[scored], broken, one, metric, where, labelled, room))
            room -= parts[-1].outputs.nbytes
            task.advance(len(one.ids))
    return _joined(parts)


def output_name(session: Session, wanted: str | None, where: str) -> str:
    """The output that is scored: ``wanted``, or the first.

    Raises:
        UserError: the model has no such output.
    """
    names = [spec.name for spec in session.outputs]
    if wanted is not None and wanted not in names:
        raise UserError(f"there is no output '{wanted}', known: {', '.join(names)}", where=where)
    return wanted or names[0]


def answer(session: Session, inputs: Feeds, count: int, size: int) -> dict[str, np.ndarray]:
    """Answers [count, ...]; for a fixed batch the last samples are repeated to fill it."""
    if fixed_batch(session.inputs) is None or count == size:
        return session(inputs)
    padded = {
        name: np.concatenate([array, np.repeat(array[-1:], size - count, axis=0)])
        for name, array in inputs.items()
    }
    answers = session(padded).items()
    return {name: a[:count] if a.shape[:1] == (size,) else a for name, a in answers}


def check_labels(batch: Batch, where: str) -> None:
    """Raise a user's error where labels are missing or NaN."""
    if batch.labels is None:
        raise UserError(
            "the samples have no labels, and accuracy needs them",
            where=where,
            then="Give labels with the samples, or take the metric agreement, which needs none",
        )
    labels = np.asarray(batch.labels).reshape(len(batch.ids), -1)
    bad = ~np.isfinite(labels.astype(np.float64)).all(axis=1)
    if bad.any():
        raise UserError(
            f"the label of sample {batch.ids[int(bad.argmax())]} is NaN",
            where=where,
            then="Mend or take out that sample",
        )


def nonfinite_masks(answers: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """bool [count, values] by output; one without a sample dimension counts for every sample."""
    masks = {}
    for name, array in answers.items():
        if array.dtype.kind == "f":
            wrong = ~np.isfinite(array)
            by_sample = wrong.shape[:1] == (count,)
            masks[name] = (
                wrong.reshape(count, -1)
                if by_sample
                else np.broadcast_to(wrong.reshape(1, -1), (count, wrong.size))
            )
    return masks


def nonfinite_values(answers: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    """int64 [count]: values that are NaN or infinity, over all outputs."""
    found = (mask.sum(axis=1) for mask in nonfinite_masks(answers, count).values())
    return np.asarray(sum(found, np.zeros(count, np.int64)))


def check_rows(outputs: np.ndarray, batch: Batch, where: str) -> None:
    """Raise a user's error where the outputs' first dimension is not the sample."""
    if outputs.shape[:1] != (len(batch.ids),):
        raise UserError(
            f"{len(batch.ids)} samples gave outputs {list(outputs.shape)}; the first dimension "
            "must be the sample",
            where=where,
            then="Export the model with a dynamic batch, or name another output to score",
        )


def score_batch(
    outputs: np.ndarray,
    nonfinite: np.ndarray,
    batch: Batch,
    metric: Metric,
    where: str,
    labelled: bool,
    room: int,
) -> Records:
    """Records of one batch, with as many raw outputs as fit into ``room`` bytes.

    Raises:
        UserError: the output has no sample dimension, or does not fit the metric.
    """
    unscored = np.full(len(batch.ids), np.nan)
    labels = np.asarray(batch.labels) if labelled else unscored
    check_rows(outputs, batch, where)
    try:
        scores = metric.score(outputs, labels) if labelled else unscored
    except ValueError as error:
        span = f"{batch.ids[0]} to {batch.ids[-1]}"
        raise UserError(str(error), where=f"{where}, samples {span}", then=_OTHER) from error
    kept = max(0, room) // max(1, outputs[0].size * 4)
    return Records(
        label=where,
        metric=metric,
        ids=tuple(batch.ids),
        labels=labels,
        predictions=metric.predict(outputs),
        scores=scores,
        outputs=outputs[:kept].astype(np.float32),
        nonfinite=nonfinite,
    )


def _joined(parts: Sequence[Records]) -> Records:
    predictions = [p.predictions for p in parts if p.predictions is not None]
    return Records(
        label=parts[0].label,
        metric=parts[0].metric,
        ids=tuple(name for part in parts for name in part.ids),
        labels=np.concatenate([part.labels for part in parts]),
        predictions=np.concatenate(predictions) if predictions else None,
        scores=np.concatenate([part.scores for part in parts]),
        outputs=np.concatenate([part.outputs for part in parts]),
        nonfinite=np.concatenate([part.nonfinite for part in parts]),
    )


def check_same_samples(reference: Records, candidate: Records) -> None:
    """Raise a user's error where two records are not of the same samples and metric."""
    if reference.metric != candidate.metric:
        raise UserError(
            "the two models were scored by different metrics",
            where="accuracy",
            then="Score both by one metric",
        )
    if reference.ids == candidate.ids:
        return
    differing = next(
        (f"{a} against {b}" for a, b in zip(reference.ids, candidate.ids, strict=False) if a != b),
        f"{len(reference)} against {len(candidate)} samples",
    )
    raise UserError(
        f"the two models answered different samples: {differing}",
        where="accuracy",
        then="A comparison is in pairs; run both on the same split",
    )
