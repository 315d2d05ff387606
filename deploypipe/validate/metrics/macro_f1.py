"""Mean of the classes' F1: rare classes count as much as common ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deploypipe.validate import Estimator, Metric, one_by_one
from deploypipe.validate.metrics.top1 import class_labels, predicted_classes


@dataclass(frozen=True)
class MacroF1(Metric):
    """Mean of F1 over the classes that are labelled or predicted; NaN scores predict no class.

    A row is (label, prediction), and -1 for no prediction.
    """

    unit: ClassVar[str] = "points"
    scale: ClassVar[float] = 100.0
    takes: ClassVar[str] = "outputs [N, classes] and labels [N]"

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        classes = class_labels(self, outputs, labels)
        predicted = np.where(np.isnan(outputs).any(axis=1), -1, outputs.argmax(axis=1))
        return np.stack([classes, predicted], axis=1).astype(np.float64)

    def predict(self, outputs: np.ndarray) -> np.ndarray | None:
        return predicted_classes(outputs)

    def estimator(self, rows: np.ndarray) -> Estimator:
        labels, predicted = rows.astype(np.int64).T + 1  # class 0 now: no prediction
        size = int(rows.max(initial=0)) + 2
        right = labels * (labels == predicted)

        def f1(counts: np.ndarray) -> float:
            labelled = np.bincount(labels, counts, size)[1:]
            given = np.bincount(predicted, counts, size)[1:]
            hits = np.bincount(right, counts, size)[1:]
            there = labelled + given > 0
            return float((2 * hits[there] / (labelled + given)[there]).mean())

        return one_by_one(f1)
