"""Share of samples to which a model gives the reference's class; needs no labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deploypipe.validate.metrics.top1 import Top1, predicted_classes


@dataclass(frozen=True)
class Agreement(Top1):
    """Share of samples to which the model gives the reference's class; needs no labels."""

    of_reference: ClassVar[bool] = True
    takes: ClassVar[str] = "outputs [N, classes], two classes or more"

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        if predicted_classes(outputs) is None:
            raise self.refuse(outputs, labels)
        return super().score(outputs, labels)

    def truth(self, outputs: np.ndarray) -> np.ndarray:
        found = predicted_classes(outputs)
        return np.zeros(len(outputs), np.int64) if found is None else found
