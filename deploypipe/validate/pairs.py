"""Two models, sample by sample: the table that accuracy and drift are functions of.

Both answer each batch before the next one is read, so that no raw output has to be kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from deploypipe.core.errors import UserError
from deploypipe.core.progress import Progress, Silent
from deploypipe.core.tensors import fixed_batch
from deploypipe.data import Batch
from deploypipe.runtime import Session
from deploypipe.validate import METRICS, Metric
from deploypipe.validate.metrics.cosine import cosines
from deploypipe.validate.records import (
    Records,
    Samples,
    answer,
    check_labels,
    check_rows,
    check_same_samples,
    nonfinite_masks,
    nonfinite_values,
    output_name,
    score_batch,
)

_ALL = 2**62


@dataclass(frozen=True)
class Moved:
    """How far each sample's raw output moved, float64 [N]; NaN where it is not known.

    ``signal`` and ``noise`` are sums of squares of the reference and of the difference, ``error``
    its largest absolute value, ``kl`` in nats of the softmax (NaN without classes).
    """

    signal: np.ndarray
    noise: np.ndarray
    error: np.ndarray
    cosine: np.ndarray
    kl: np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Ids, labels (NaN where there are none), and of both models rows, predictions and counts of NaN
    or infinity; N samples.

    ``reference_rows`` and ``candidate_rows`` float64 [N] or [N, k] are the metric's; predictions
    are int64 [N], or None where there are no classes.  ``new_nonfinite`` int64 [N] counts values
    that are NaN or infinity from the candidate where the reference's are not.
    """

    metric: Metric
    ids: tuple[str, ...]
    labels: np.ndarray
    reference_rows: np.ndarray
    candidate_rows: np.ndarray
    reference_predictions: np.ndarray | None
    candidate_predictions: np.ndarray | None
    reference_nonfinite: np.ndarray
    candidate_nonfinite: np.ndarray
    new_nonfinite: np.ndarray
    moved: Moved

    def __len__(self) -> int:
        return len(self.ids)


def record_pairs(
    reference: Session,
    candidate: Session,
    samples: Samples,
    *,
    metric: Metric | None = None,
    batch: int = 64,
    limit: int | None = None,
    output: str | None = None,
    labelled: bool = True,
    progress: Progress | None = None,
) -> Pairs:
    """Ask both models the same samples; the arguments are those of :func:`record`.

    Raises:
        UserError: as :func:`record`, for either model.
    """
    metric = metric or METRICS.build("top1")
    sessions = {"reference": reference, "candidate": candidate}
    scored = {name: output_name(one, output, name) for name, one in sessions.items()}
    size = fixed_batch(reference.inputs) or fixed_batch(candidate.inputs) or batch
    parts: list[Pairs] = []
    with (progress or Silent()).task("answers", limit or len(samples)) as task:
        for one in samples.batches(size, limit):
            if labelled and not metric.of_reference:
                check_labels(one, samples.name)
            answers = {
                name: answer(session, one.inputs, len(one.ids), size)
                for name, session in sessions.items()
            }
            parts.append(_pair_batch(answers, scored, one, metric, labelled))
            task.advance(len(one.ids))
    return join(parts)


def _pair_batch(
    answers: Mapping[str, Mapping[str, np.ndarray]],
    scored: Mapping[str, str],
    batch: Batch,
    metric: Metric,
    labelled: bool,
) -> Pairs:
    count, own = len(batch.ids), batch.labels
    if labelled and metric.of_reference:
        expected = answers["reference"][scored["reference"]]
        check_rows(expected, batch, "reference")
        batch = replace(batch, labels=metric.truth(expected))
    reference, candidate = (
        score_batch(
            given[scored[name]],
            nonfinite_values(given, count),
            batch,
            metric,
            name,
            labelled,
            _ALL,
        )
        for name, given in answers.items()
    )
    new = _new_nonfinite(answers["reference"], answers["candidate"], count)
    table = replace(pair(reference, candidate), new_nonfinite=new)
    if labelled and metric.of_reference:
        none = np.full(count, np.nan)
        table = replace(table, labels=none if own is None else np.asarray(own))
    return table


def _new_nonfinite(
    reference: Mapping[str, np.ndarray], candidate: Mapping[str, np.ndarray], count: int
) -> np.ndarray:
    """int64 [count]: values, over all outputs, that only the candidate has as NaN or infinity."""
    was, now = nonfinite_masks(reference, count), nonfinite_masks(candidate, count)
    found = np.zeros(count, np.int64)
    for name, mask in now.items():
        known = name in was and was[name].shape == mask.shape
        found += (mask & ~was[name] if known else mask).sum(axis=1)
    return found


def pair(reference: Records, candidate: Records) -> Pairs:
    """Two models' records as one table; distances only for the samples whose outputs were kept.

    Raises:
        UserError: other samples, another metric, or outputs of another shape.
    """
    check_same_samples(reference, candidate)
    theirs, mine = _kept(reference, candidate)
    more = np.maximum(candidate.nonfinite.astype(int) - reference.nonfinite.astype(int), 0)
    seen = (np.isfinite(theirs) & ~np.isfinite(mine)).sum(axis=1)
    more[: len(seen)] = np.maximum(more[: len(seen)], seen)
    return Pairs(
        metric=reference.metric,
        ids=reference.ids,
        labels=reference.labels,
        reference_rows=reference.scores,
        candidate_rows=candidate.scores,
        reference_predictions=reference.predictions,
        candidate_predictions=candidate.predictions,
        reference_nonfinite=reference.nonfinite.astype(np.int64),
        candidate_nonfinite=candidate.nonfinite.astype(np.int64),
        new_nonfinite=more.astype(np.int64),
        moved=_moved(theirs, mine, len(reference), reference.predictions is not None),
    )


def _kept(reference: Records, candidate: Records) -> tuple[np.ndarray, np.ndarray]:
    """Raw outputs float64 [samples, values] of the samples that both sides kept."""
    shapes = reference.outputs.shape[1:], candidate.outputs.shape[1:]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"the outputs differ in shape: {list(shapes[0])} and {list(shapes[1])} a sample",
            where="drift",
            then="Compare models whose outputs have equal shapes, or name another output",
        )
    n = min(len(reference.outputs), len(candidate.outputs))
    width = int(np.prod(shapes[0]))
    both = reference.outputs[:n], candidate.outputs[:n]
    theirs, mine = (side.reshape(n, width).astype(np.float64) for side in both)
    return theirs, mine


def _moved(reference: np.ndarray, candidate: np.ndarray, count: int, classes: bool) -> Moved:
    """Distances of ``count`` samples, of which the first have outputs [n, values]."""
    finite = np.isfinite(reference).all(axis=1) & np.isfinite(candidate).all(axis=1)
    known = np.flatnonzero(finite)
    a, b = reference[known], candidate[known]
    difference = np.abs(b - a)

    def column(values: np.ndarray) -> np.ndarray:
        whole = np.full(count, np.nan)
        whole[known] = values
        return whole

    return Moved(
        signal=column((a * a).sum(axis=1)),
        noise=column((difference * difference).sum(axis=1)),
        error=column(difference.max(axis=1, initial=0.0)),
        cosine=column(cosines(a, b)),
        kl=column(_kl(a, b)) if classes else np.full(count, np.nan),
    )


def _kl(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """KL(reference || candidate) of the softmax per sample, in nats."""
    p, q = _log_softmax(reference), _log_softmax(candidate)
    return np.asarray(np.maximum((np.exp(p) * (p - q)).sum(axis=1), 0.0))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def join(parts: Sequence[Pairs]) -> Pairs:
    """Tables of different samples, one after the other."""
    first = parts[0]
    given = {f.name: [getattr(part, f.name) for part in parts] for f in fields(Pairs)}
    moved = {
        f.name: np.concatenate([getattr(part.moved, f.name) for part in parts])
        for f in fields(Moved)
    }
    arrays: dict[str, Any] = {
        name: None if any(one is None for one in values) else np.concatenate(values)
        for name, values in given.items()
        if name not in ("metric", "ids", "moved")
    }
    ids = tuple(name for part in parts for name in part.ids)
    return replace(first, ids=ids, moved=Moved(**moved), **arrays)


def take(pairs: Pairs, rows: Sequence[int]) -> Pairs:
    """The samples at ``rows``, in that order."""
    picked = np.asarray(rows, np.int64)
    moved = Moved(**{f.name: getattr(pairs.moved, f.name)[picked] for f in fields(Moved)})
    arrays: dict[str, Any] = {
        f.name: getattr(pairs, f.name)[picked]
        for f in fields(Pairs)
        if isinstance(getattr(pairs, f.name), np.ndarray)
    }
    return replace(pairs, ids=tuple(pairs.ids[i] for i in picked), moved=moved, **arrays)
