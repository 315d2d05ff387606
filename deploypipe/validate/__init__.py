"""Sessions + data -> measurements -> verdict.  Measuring, judging and printing are three things.

``interleave`` times, ``records`` asks, ``latency``, ``accuracy`` and ``drift`` compare, ``judge``
decides.  A new metric is one new file in ``metrics/`` whose class derives from :class:`Metric`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from deploypipe.core.shelf import Shelf


class Metric(ABC):
    """A number per sample whose mean over the samples is the metric."""

    higher_is_better: ClassVar[bool] = True
    binary: ClassVar[bool] = False
    """Every sample is right (1) or wrong (0): paired proportions are compared exactly."""
    unit: ClassVar[str] = ""
    scale: ClassVar[float] = 1.0
    """Per-sample scores times ``scale`` are in ``unit``: 100 for points."""

    @abstractmethod
    def score(self, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Scores float64 [N] for outputs [N, ...] and labels [N, ...].

        Raises:
            ValueError: the shapes are not what the metric takes; says which it takes.
        """

    def predict(self, outputs: np.ndarray) -> np.ndarray | None:
        """Predicted classes int64 [N], or None where the model predicts no class."""
        return None


METRICS: Shelf[Metric] = Shelf("metric", "deploypipe.validate.metrics", Metric)
