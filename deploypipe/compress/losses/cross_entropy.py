"""Cross-entropy with label smoothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from deploypipe.compress import Loss


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Mean negative log-likelihood of the labels."""

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing <= 1:
            raise ValueError(f"smoothing must be in [0, 1], got {self.smoothing}")

    def __call__(
        self, outputs: torch.Tensor, labels: torch.Tensor, teacher: torch.Tensor | None
    ) -> torch.Tensor:
        return functional.cross_entropy(outputs, labels, label_smoothing=self.smoothing)
