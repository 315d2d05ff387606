"""Logit distillation.

    loss = (1 - weight) * cross_entropy(student, labels)
         + weight * T^2 * KL(softmax(teacher / T) || softmax(student / T))

Source: Hinton, Vinyals and Dean 2015, arXiv 1503.02531.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from deploypipe.compress import Loss


@dataclass(frozen=True)
class Knowledge(Loss):
    """The labels, and what the teacher answers at temperature ``temperature``."""

    temperature: float = 4.0
    weight: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight must be in [0, 1], got {self.weight}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")

    def __call__(
        self, outputs: torch.Tensor, labels: torch.Tensor, teacher: torch.Tensor | None
    ) -> torch.Tensor:
        hard = functional.cross_entropy(outputs, labels)
        if teacher is None:
            return hard
        soft = functional.kl_div(
            functional.log_softmax(outputs / self.temperature, 1),
            functional.log_softmax(teacher / self.temperature, 1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - self.weight) * hard + self.weight * self.temperature**2 * soft
