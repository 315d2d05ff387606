"""Mean of the squared differences between outputs and labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deploypipe.validate import Metric


@dataclass(frozen=True)
class MeanSquaredError(Metric):
    """Mean of the squared differences between outputs and labels."""

    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "squared error"
    takes: ClassVar[str] = "outputs and labels of one shape"

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        if outputs.size != labels.size or len(outputs) != len(labels):
            raise self.refuse(outputs, labels)
        given, wanted = (a.reshape(len(a), -1).astype(np.float64) for a in (outputs, labels))
        return np.asarray(((given - wanted) ** 2).mean(axis=1))
