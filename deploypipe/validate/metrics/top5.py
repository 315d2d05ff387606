"""Share of samples whose label is among the five highest scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deploypipe.validate import Metric
from deploypipe.validate.metrics.top1 import class_labels, predicted_classes


@dataclass(frozen=True)
class Top5(Metric):
    """Share of samples whose label is among the five highest scores."""

    binary: ClassVar[bool] = True
    unit: ClassVar[str] = "points"
    scale: ClassVar[float] = 100.0
    takes: ClassVar[str] = "outputs [N, classes] and labels [N]"

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        classes = class_labels(self, outputs, labels)
        # A stable sort, so that among equal scores the lower class wins, as with argmax.
        best = np.argsort(-outputs.astype(np.float64), axis=1, kind="stable")[:, :5]
        right = (best == classes[:, None]).any(axis=1)
        return np.asarray(right & ~np.isnan(outputs).any(axis=1), np.float64)

    def predict(self, outputs: np.ndarray) -> np.ndarray | None:
        return predicted_classes(outputs)
