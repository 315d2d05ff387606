"""Share of samples whose highest score is the label's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deploypipe.validate import Metric


@dataclass(frozen=True)
class Top1(Metric):
    """Share of samples whose highest score is the label's."""

    binary: ClassVar[bool] = True
    unit: ClassVar[str] = "points"
    scale: ClassVar[float] = 100.0
    takes: ClassVar[str] = "outputs [N, classes] and labels [N]"

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        classes = class_labels(self, outputs, labels)
        right = outputs.argmax(axis=1) == classes
        return np.asarray(right & ~np.isnan(outputs).any(axis=1), np.float64)

    def predict(self, outputs: np.ndarray) -> np.ndarray | None:
        return predicted_classes(outputs)


def predicted_classes(outputs: np.ndarray) -> np.ndarray | None:
    """Classes int64 [N] of scores [N, classes]; None for other shapes and for a single class."""
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        return None
    return np.asarray(outputs.argmax(axis=1))


def class_labels(metric: Metric, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels int64 [N] for scores [N, classes]; a column of labels will do.

    Raises:
        ValueError: other shapes, a label that is no whole number, or one that is no class.
    """
    if outputs.ndim != 2 or labels.shape not in ((len(outputs),), (len(outputs), 1)):
        raise metric.refuse(outputs, labels)
    given = labels.reshape(-1)
    classes = given.astype(np.int64)
    wrong = (classes != given) | (classes < 0) | (classes >= outputs.shape[1])
    if wrong.any():
        label = given[wrong][0]
        raise ValueError(f"label {label} is not one of the model's {outputs.shape[1]} classes")
    return classes
