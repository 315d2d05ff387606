"""Accuracy of two models on the same samples, compared in pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deploypipe.core.files import Json
from deploypipe.validate import METRICS
from deploypipe.validate.bootstrap import bootstrap_interval
from deploypipe.validate.interval import Interval
from deploypipe.validate.paired_proportions import drop_interval, mcnemar_p, provable_margin
from deploypipe.validate.records import Records, check_same_samples, record

__all__ = ["CONFIDENCE", "AccuracyComparison", "Records", "compare_accuracy", "record"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class AccuracyComparison:
    """Two models in pairs.  ``drop`` is in the metric's unit and positive for a loss.

    ``reference`` and ``candidate`` are the metric itself; times ``scale`` they are in ``unit``.
    ``drop`` is one-sided at ``confidence`` on each end: 95 % at each is 90 % for both.  The flips,
    McNemar's p and the provable margin are None for metrics that are not right/wrong.
    """

    metric: str
    unit: str
    scale: float
    samples: int
    reference: float
    candidate: float
    drop: Interval
    confidence: float
    higher_is_better: bool
    flips_to_wrong: int | None = None
    flips_to_right: int | None = None
    mcnemar_p: float | None = None
    provable_margin: float | None = None

    def to_json(self) -> dict[str, Json]:
        """The ``accuracy`` section of a report."""
        values = {
            "reference": self.reference,
            "candidate": self.candidate,
            "drop_points": self.drop.value,
            "low": self.drop.low,
            "high": self.drop.high,
        }
        return {
            "metric": self.metric,
            "unit": self.unit,
            "scale": self.scale,
            "higher_is_better": self.higher_is_better,
            "samples": self.samples,
            **{name: value if np.isfinite(value) else None for name, value in values.items()},
            "confidence": self.confidence,
            "one_sided": True,
            "flips_to_wrong": self.flips_to_wrong,
            "flips_to_right": self.flips_to_right,
            "mcnemar_p": self.mcnemar_p,
            "provable_margin_points": self.provable_margin,
        }


def compare_accuracy(
    reference: Records, candidate: Records, confidence: float = CONFIDENCE, seed: int = 0
) -> AccuracyComparison:
    """Compare two models' records of the same samples.

    Tango's score interval for right/wrong metrics, a paired bootstrap for the others.

    Raises:
        UserError: the samples or the metrics are not the same.
    """
    check_same_samples(reference, candidate)
    metric = reference.metric
    compare = _compare_shares if metric.binary else _compare_means
    return compare(reference, candidate, confidence, seed)


def _compare_shares(
    reference: Records, candidate: Records, confidence: float, _: int
) -> AccuracyComparison:
    was, now, n = reference.scores > 0.5, candidate.scores > 0.5, len(reference)
    lost, won = int((was & ~now).sum()), int((~was & now).sum())
    scale = reference.metric.scale
    return AccuracyComparison(
        metric=METRICS.name_of(reference.metric),
        unit=reference.metric.unit,
        scale=scale,
        samples=n,
        reference=reference.mean,
        candidate=candidate.mean,
        drop=drop_interval(lost, won, n, confidence).map(lambda share: share * scale),
        confidence=confidence,
        higher_is_better=reference.metric.higher_is_better,
        flips_to_wrong=lost,
        flips_to_right=won,
        mcnemar_p=mcnemar_p(lost, won),
        provable_margin=provable_margin(lost, won, n, confidence) * scale,
    )


def _compare_means(
    reference: Records, candidate: Records, confidence: float, seed: int
) -> AccuracyComparison:
    metric = reference.metric
    sign = 1 if metric.higher_is_better else -1
    differences = sign * metric.scale * (reference.scores - candidate.scores)
    return AccuracyComparison(
        metric=METRICS.name_of(metric),
        unit=metric.unit,
        scale=metric.scale,
        samples=len(reference),
        reference=reference.mean,
        candidate=candidate.mean,
        drop=bootstrap_interval(differences, confidence, seed),
        confidence=confidence,
        higher_is_better=metric.higher_is_better,
    )
