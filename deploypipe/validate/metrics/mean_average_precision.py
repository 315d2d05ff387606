"""Mean over the classes of the area below precision over recall."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from deploypipe.validate import Estimator, Metric


@dataclass(frozen=True)
class MeanAveragePrecision(Metric):
    """Mean average precision of labels, or of boxes that overlap a true one by ``iou`` or more.

    Labels: scores [N, classes] and labels [N], or 0 and 1 [N, classes]; average precision is the
    sum of precision times the step in recall, without interpolation.

    Boxes: outputs [N, boxes, 6] (x1, y1, x2, y2, score, class) and labels [N, boxes, 5] (x1, y1,
    x2, y2, class), in both of which a negative class fills up.  By falling score each box takes
    the free true box that it overlaps most (Everingham et al. 2010, doi 10.1007/s11263-009-0275-4);
    precision is interpolated as the largest at this recall or more.

    Everything is a function of a table with a line for each (sample, class, score, hit), and the
    number of true ones of each sample and class; draws are of samples, not of lines.
    """

    iou: float = 0.5

    unit: ClassVar[str] = "points"
    scale: ClassVar[float] = 100.0
    takes: ClassVar[str] = (
        "outputs [N, classes] and labels [N] or [N, classes], or boxes: outputs [N, boxes, 6] "
        "and labels [N, boxes, 5]"
    )

    def __post_init__(self) -> None:
        if not 0 < self.iou <= 1:
            raise ValueError(f"iou must be in (0, 1], got {self.iou}")

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        if outputs.ndim == 3 and outputs.shape[2] == 6 and labels.shape[1:][1:] == (5,):
            return _of_boxes(outputs.astype(np.float64), labels.astype(np.float64), self.iou)
        if outputs.ndim != 2 or outputs.shape[1] < 2:
            raise self.refuse(outputs, labels)
        return _of_scores(outputs.astype(np.float64), self._relevant(outputs, labels))

    def _relevant(self, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """bool [N, classes]."""
        if labels.shape == outputs.shape and np.isin(labels, (0, 1)).all():
            return np.asarray(labels != 0)
        classes = np.arange(outputs.shape[1])
        if labels.shape != (len(outputs),) or not np.isin(labels, classes).all():
            raise self.refuse(outputs, labels)
        return np.asarray(labels[:, None] == classes)

    def estimator(self, rows: np.ndarray) -> Estimator:
        parts = _unpacked(rows)
        rankings = [_ranking(parts, one) for one in np.unique(parts.true_class)]

        def mean(counts: np.ndarray) -> np.ndarray:
            if not rankings:
                return np.full(len(counts), np.nan)
            drawn = np.ascontiguousarray(counts.T, np.float32)  # whole numbers, exact to 2**24
            found = np.stack([_average_precision(one, drawn, parts.boxes) for one in rankings])
            there = np.isfinite(found)
            with np.errstate(invalid="ignore"):  # nothing true was drawn
                return np.asarray(np.where(there, found, 0).sum(axis=0) / there.sum(axis=0))

        return mean


@dataclass(frozen=True)
class _Table:
    """Lines (sample, class, score, hit), and (sample, class) of everything true."""

    sample: np.ndarray
    label: np.ndarray
    score: np.ndarray
    hit: np.ndarray
    true_sample: np.ndarray
    true_class: np.ndarray
    boxes: bool


@dataclass(frozen=True)
class _Ranking:
    """One class: the samples of its lines by falling score, cut into spans.

    Recall grows only where there is a hit, so that precision is asked for at the ends of those runs
    of equal scores that hold one: a span goes from one such end to the next.  ``starts`` and
    ``hit_starts`` are where spans begin among the lines and among the hits.
    """

    sample: np.ndarray
    starts: np.ndarray
    hit_sample: np.ndarray
    hit_starts: np.ndarray
    true_sample: np.ndarray


def _of_scores(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Rows (0, classes, class, score and hit of each line, true classes or -1)."""
    n, classes = scores.shape
    names = np.broadcast_to(np.arange(classes), scores.shape)
    lines = np.stack([names, scores, relevant], axis=2).reshape(n, -1)
    return np.hstack([np.full((n, 1), 0.0), np.full((n, 1), classes), lines, _true(relevant)])


def _true(relevant: np.ndarray) -> np.ndarray:
    return np.where(relevant, np.arange(relevant.shape[1]), -1).astype(np.float64)


def _of_boxes(boxes: np.ndarray, truths: np.ndarray, iou: float) -> np.ndarray:
    """Rows (1, boxes, class, score and hit of each line, true classes or -1)."""
    n, count = boxes.shape[:2]
    hits = np.stack([_hits(a, b, iou) for a, b in zip(boxes, truths, strict=True)])
    lines = np.stack([boxes[..., 5], boxes[..., 4], hits], axis=2).reshape(n, -1)
    return np.hstack([np.ones((n, 1)), np.full((n, 1), count), lines, truths[..., 4]])


def _hits(boxes: np.ndarray, truths: np.ndarray, iou: float) -> np.ndarray:
    """bool [boxes]: which of one sample's boxes takes a true box of its class that is free."""
    free = truths[:, 4] >= 0
    hits = np.zeros(len(boxes), bool)
    for i in np.argsort(-boxes[:, 4], kind="stable"):
        overlap = np.where(free & (truths[:, 4] == boxes[i, 5]), _iou(boxes[i], truths), 0.0)
        best = int(overlap.argmax()) if len(overlap) else 0
        if len(overlap) and overlap[best] >= iou:
            hits[i], free[best] = True, False
    return hits


def _iou(box: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Intersection over union [T] of one box with others."""
    low, high = np.maximum(box[:2], truths[:, :2]), np.minimum(box[2:4], truths[:, 2:4])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = np.clip(truths[:, 2:4] - truths[:, :2], 0, None).prod(axis=1)
    union = areas + np.clip(box[2:4] - box[:2], 0, None).prod() - shared
    return np.asarray(shared / np.where(union > 0, union, 1))


def _unpacked(rows: np.ndarray) -> _Table:
    count = int(rows[0, 1])
    lines = rows[:, 2 : 2 + 3 * count].reshape(len(rows), count, 3)
    sample = np.repeat(np.arange(len(rows)), count)
    label, score, hit = lines.reshape(-1, 3).T
    kept = label >= 0
    true_sample, place = np.nonzero(rows[:, 2 + 3 * count :] >= 0)
    true_class = rows[true_sample, 2 + 3 * count + place]
    given = (sample[kept], label[kept], score[kept], hit[kept])
    return _Table(*given, true_sample, true_class, bool(rows[0, 0]))


def _ranking(table: _Table, label: float) -> _Ranking:
    lines = np.flatnonzero(table.label == label)
    score = np.nan_to_num(table.score[lines], nan=-np.inf)  # no score: the last of all
    order = np.argsort(-score, kind="stable")
    lines, score = lines[order], score[order]
    run = np.cumsum(np.append(0.0, score[1:] != score[:-1])[: len(score)])
    hits = np.flatnonzero(table.hit[lines])
    ends = np.searchsorted(run, np.unique(run[hits]), side="right")
    return _Ranking(
        sample=table.sample[lines[: ends[-1] if len(ends) else 0]],
        starts=np.append(0, ends)[:-1],
        hit_sample=table.sample[lines[hits]],
        hit_starts=np.unique(run[hits], return_index=True)[1],
        true_sample=table.true_sample[table.true_class == label],
    )


def _average_precision(ranking: _Ranking, counts: np.ndarray, boxes: bool) -> np.ndarray:
    """[B] for counts [N, B]; NaN where nothing of the class was drawn."""
    wanted = counts.take(ranking.true_sample, axis=0).sum(axis=0, dtype=np.float64)
    hits = _sums(counts, ranking.hit_sample, ranking.hit_starts)
    given = _running(_sums(counts, ranking.sample, ranking.starts))
    precision = _running(hits.copy()) / np.maximum(given, 1)
    if boxes:
        precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    with np.errstate(invalid="ignore"):
        return np.asarray((precision * hits).sum(axis=0) / wanted)


def _sums(counts: np.ndarray, samples: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Counts [N, B] of ``samples``, summed from each of ``starts`` to the next, float64 [spans, B]."""
    if len(starts) == len(samples):  # the common case for hits: no two have equal scores
        return counts.take(samples, axis=0).astype(np.float64)
    found = np.empty((len(starts), counts.shape[1]))
    for span, start, end in zip(found, starts, [*starts[1:], len(samples)], strict=True):
        np.add.reduce(counts.take(samples[start:end], axis=0), axis=0, out=span)
    return found


def _running(rows: np.ndarray) -> np.ndarray:
    """The rows summed up from the first on, in place; numpy's cumsum is slow along this axis."""
    for before, row in pairwise(rows):
        row += before
    return rows
