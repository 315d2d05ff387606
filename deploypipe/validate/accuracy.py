"""Accuracy of two models on the same samples, compared in pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from deploypipe.core.files import Json
from deploypipe.validate import METRICS, Metric
from deploypipe.validate.bootstrap import bootstrap
from deploypipe.validate.interval import Interval
from deploypipe.validate.paired_proportions import (
    drop_interval,
    mcnemar_p,
    provable_by,
    provable_margin,
    share_interval,
)
from deploypipe.validate.pairs import Pairs, pair
from deploypipe.validate.records import Records, record

__all__ = ["CONFIDENCE", "AccuracyComparison", "Records", "compare_accuracy", "record"]

CONFIDENCE = 0.95

FEW = 10
"""Samples that must differ before their spread is trusted to tell of those that were not drawn."""


@dataclass(frozen=True)
class AccuracyComparison:
    """Two models in pairs.  ``drop`` is in the metric's unit and positive for a loss.

    ``reference`` and ``candidate`` are the metric itself; times ``scale`` they are in ``unit``.
    ``drop`` is one-sided at ``confidence`` on each end: 95 % at each is 90 % for both.  The flips
    and McNemar's p are None for metrics that are not right/wrong.  ``provable_margin`` is what
    models as equal as these could be proven to keep, ``standard_error`` that of the drop.
    ``of_reference`` is whether right is what the reference answers.
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
    standard_error: float | None = None
    method: str = "tango"
    of_reference: bool = False

    @property
    def proven_margin(self) -> float:
        """The smallest margin that these samples prove: a smaller limit would not pass."""
        return max(0.0, self.drop.high)

    def to_json(self) -> dict[str, Json]:
        """The ``accuracy`` section of a report."""
        values = {
            "reference": self.reference,
            "candidate": self.candidate,
            "drop_points": self.drop.value,
            "low": self.drop.low,
            "high": self.drop.high,
            "provable_margin_points": self.provable_margin,
            "proven_margin_points": self.proven_margin,
            "standard_error": self.standard_error,
        }
        return {
            "metric": self.metric,
            "unit": self.unit,
            "scale": self.scale,
            "higher_is_better": self.higher_is_better,
            "samples": self.samples,
            **{name: _finite(value) for name, value in values.items()},
            "confidence": self.confidence,
            "one_sided": True,
            "method": self.method,
            "flips_to_wrong": self.flips_to_wrong,
            "flips_to_right": self.flips_to_right,
            "mcnemar_p": self.mcnemar_p,
            "of_reference": self.of_reference,
        }


def compare_accuracy(
    reference: Records, candidate: Records, confidence: float = CONFIDENCE, seed: int = 0
) -> AccuracyComparison:
    """Compare two models' records of the same samples, as :func:`accuracy_of`.

    Raises:
        UserError: the samples or the metrics are not the same.
    """
    return accuracy_of(pair(reference, candidate), confidence, seed)


def accuracy_of(pairs: Pairs, confidence: float = CONFIDENCE, seed: int = 0) -> AccuracyComparison:
    """The drop of the metric: Tango's score interval for right/wrong metrics, a paired BCa
    bootstrap over the samples for the others."""
    metric = pairs.metric
    reference, candidate = (
        metric.total(rows) for rows in (pairs.reference_rows, pairs.candidate_rows)
    )
    sign = 1 if metric.higher_is_better else -1
    drop = sign * metric.scale * (reference - candidate)
    bare = AccuracyComparison(
        metric=METRICS.name_of(metric),
        unit=metric.unit,
        scale=metric.scale,
        samples=len(pairs),
        reference=reference,
        candidate=candidate,
        drop=Interval(drop, -math.inf, math.inf, 2 * confidence - 1),
        confidence=confidence,
        higher_is_better=metric.higher_is_better,
        of_reference=metric.of_reference,
    )
    if metric.binary:
        return _with_proportions(bare, pairs)
    return _with_bootstrap(bare, pairs, seed)


def _with_proportions(bare: AccuracyComparison, pairs: Pairs) -> AccuracyComparison:
    was, now, n = pairs.reference_rows > 0.5, pairs.candidate_rows > 0.5, len(pairs)
    lost, won = int((was & ~now).sum()), int((~was & now).sum())
    scale, share = bare.scale, (lost - won) / n
    alike = bare.of_reference  # the reference is right by definition: nothing for McNemar to test
    drop, method = drop_interval(lost, won, n, bare.confidence), "tango"
    if alike and not won:
        drop, method = share_interval(lost, n, bare.confidence), "wilson"
    return replace(
        bare,
        drop=drop.map(lambda share: share * scale),
        method=method,
        flips_to_wrong=lost,
        flips_to_right=won,
        mcnemar_p=None if alike else mcnemar_p(lost, won),
        provable_margin=provable_margin(lost, won, n, bare.confidence) * scale,
        standard_error=math.sqrt(((lost + won) / n - share**2) / n) * scale,
    )


def _with_bootstrap(bare: AccuracyComparison, pairs: Pairs, seed: int) -> AccuracyComparison:
    n, rows = len(pairs), (pairs.reference_rows, pairs.candidate_rows)
    was, now = (pairs.metric.estimator(side.reshape(n, -1)) for side in rows)
    factor = (1 if bare.higher_is_better else -1) * bare.scale

    def drop(counts: np.ndarray) -> np.ndarray:
        return factor * (was(counts) - now(counts))

    width = max(1, rows[0].size // n)
    found = bootstrap(drop, n, bare.confidence, seed, width=width)
    error = found.standard_error
    unseen = _unseen(pairs.metric, *rows, bare.confidence, still=error == 0)
    return replace(
        bare,
        drop=_at_least(found.interval, unseen),
        provable_margin=max(provable_by(error, bare.confidence), unseen)
        if math.isfinite(error)
        else None,
        standard_error=error if math.isfinite(error) else None,
        method="bca",
    )


def _unseen(
    metric: Metric, reference: np.ndarray, candidate: np.ndarray, confidence: float, still: bool
) -> float:
    """What samples that were not drawn may still hide, where hardly any of those drawn differ, or
    where they do but no draw of them moves the metric (``still``).

    A bounded metric in points moves at most by the share of samples that change, and of n samples
    without a change that share is still bounded: by the score interval of no flip.
    """
    n = len(reference)
    differ = (reference.reshape(n, -1) != candidate.reshape(n, -1)).any(axis=1).sum()
    if metric.unit != "points" or (differ >= FEW and not still):
        return 0.0
    return drop_interval(0, 0, n, confidence).high * metric.scale


def _at_least(interval: Interval, half: float) -> Interval:
    """The interval, and at least so much on either side of its value."""
    low, high = min(interval.low, interval.value - half), max(interval.high, interval.value + half)
    return replace(interval, low=low, high=high)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
