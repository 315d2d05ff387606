"""Linear correlation of outputs and labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deploypipe.validate import Estimator, Metric, of_means


@dataclass(frozen=True)
class Pearson(Metric):
    """Linear correlation of outputs and labels.  A row is (output, label)."""

    unit: ClassVar[str] = "correlation"
    takes: ClassVar[str] = "one output and one label a sample"

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return output_and_label(self, outputs, labels)

    def estimator(self, rows: np.ndarray) -> Estimator:
        x, y = (rows - rows.mean(axis=0)).T  # around zero, so that squares lose no digits
        return of_means(np.stack([x, y, x * x, y * y, x * y], axis=1), _correlation)


def output_and_label(metric: Metric, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows float64 [N, 2] of (output, label).

    Raises:
        ValueError: more than one output or label a sample.
    """
    n = len(outputs)
    if outputs.size != n or labels.size != n:
        raise metric.refuse(outputs, labels)
    return np.stack([outputs.reshape(n), labels.reshape(n)], axis=1).astype(np.float64)


def _correlation(means: np.ndarray) -> np.ndarray:
    x, y, xx, yy, xy = means.T
    spread = np.clip(xx - x * x, 0, None) * np.clip(yy - y * y, 0, None)
    with np.errstate(invalid="ignore", divide="ignore"):  # constants correlate with nothing: NaN
        return np.asarray((xy - x * y) / np.sqrt(spread))
