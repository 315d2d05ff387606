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

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        classes = class_labels(outputs, labels, "top1")
        right = outputs.argmax(axis=1) == classes
        return np.asarray(right & ~np.isnan(outputs).any(axis=1), np.float64)

    def predict(self, outputs: np.ndarray) -> np.ndarray | None:
        return predicted_classes(outputs)


def predicted_classes(outputs: np.ndarray) -> np.ndarray | None:
    """Classes int64 [N] of scores [N, classes]; None for other shapes and for a single class."""
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        return None
    return np.asarray(outputs.argmax(axis=1))


def class_labels(outputs: np.ndarray, labels: np.ndarray, metric: str) -> np.ndarray:
    """Labels int64 [N] for scores [N, classes].

    Raises:
        ValueError: other shapes, a label that is no whole number, or one that is no class.
    """
    if outputs.ndim != 2 or labels.shape != (len(outputs),):
        raise ValueError(
            f"{metric} takes outputs [N, classes] and labels [N], "
            f"got {list(outputs.shape)} and {list(labels.shape)}"
        )
    classes = labels.astype(np.int64)
    wrong = (classes != labels) | (classes < 0) | (classes >= outputs.shape[1])
    if wrong.any():
        label = labels[wrong][0]
        raise ValueError(f"label {label} is not one of the model's {outputs.shape[1]} classes")
    return classes
