"""Correlation of the ranks of outputs and labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deploypipe.validate import Estimator, Metric, one_by_one
from deploypipe.validate.metrics.pearson import output_and_label


@dataclass(frozen=True)
class Spearman(Metric):
    """Correlation of the ranks of outputs and labels; ties share a rank.  A row is (output, label)."""

    unit: ClassVar[str] = "correlation"
    takes: ClassVar[str] = "one output and one label a sample"

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return output_and_label(self, outputs, labels)

    def estimator(self, rows: np.ndarray) -> Estimator:
        if not np.isfinite(rows).all():
            return one_by_one(lambda _: float("nan"))
        x, y = (np.unique(column, return_inverse=True)[1] for column in rows.T)

        def correlation(counts: np.ndarray) -> float:
            a, b = _ranks(x, counts), _ranks(y, counts)
            n = counts.sum()
            a, b = a - counts @ a / n, b - counts @ b / n
            spread = float((counts @ (a * a)) * (counts @ (b * b)))
            return float(counts @ (a * b)) / spread**0.5 if spread > 0 else float("nan")

        return one_by_one(correlation)


def _ranks(place: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean rank [N] of each sample's value, where sample i is there ``counts[i]`` times.

    ``place`` int [N] numbers the different values in ascending order.
    """
    there = np.bincount(place, counts)
    return np.asarray((np.cumsum(there) - (there - 1) / 2)[place])
