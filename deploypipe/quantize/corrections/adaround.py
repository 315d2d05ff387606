"""AdaRound: learn for every weight whether it is rounded up or down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deploypipe.quantize.layerwise import Layerwise, Task
from deploypipe.quantize.patches import Floats

_STRETCH_LOW, _STRETCH_HIGH = -0.1, 1.1
_RATE, _FIRST, _SECOND = 0.05, 0.9, 0.999


@dataclass(frozen=True)
class Adaround(Layerwise):
    """Gradient descent on how much of a step each weight is rounded up by, driven to 0 or 1.

    Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", 2020
    (arXiv:2004.10568), equations 21 to 24, on the layer's result before its activation.  The squared
    error is a quadratic form of the products of the layer's inputs, so a step costs the same
    however many samples there are.  Minutes for a large model; `gptq` is faster.
    """

    steps: int = 500
    regularization: float = 10.0

    order: ClassVar[int] = 45

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.regularization <= 0:
            raise ValueError(f"regularization must be positive, got {self.regularization:g}")

    def solve(self, task: Task) -> Floats:
        floor = np.floor(task.weight / task.scales)
        part = task.weight / task.scales - floor
        width = _STRETCH_HIGH - _STRETCH_LOW
        inner = np.clip((part - _STRETCH_LOW) / width, 1e-6, 1 - 1e-6)
        logits = np.log(inner / (1 - inner))
        own, target = task.products, task.weight @ task.products
        # In units of the error of rounding to nearest, so that the rate fits every layer.
        unit = max(float(np.einsum("gok,gkl,gol->", *_error(task), optimize=True)), 1e-30)
        first, second = np.zeros_like(logits), np.zeros_like(logits)
        for step in range(1, self.steps + 1):
            sigmoid = 1 / (1 + np.exp(-logits))
            stretched = sigmoid * width + _STRETCH_LOW
            up = np.clip(stretched, 0, 1)
            given = np.clip(floor + up, -task.limit, task.limit) * task.scales
            slope = 2 * (given @ own - target) * task.scales / unit * logits.size
            slope += self._pull(up, step)
            slope *= ((stretched > 0) & (stretched < 1)) * sigmoid * (1 - sigmoid) * width
            first = _FIRST * first + (1 - _FIRST) * slope
            second = _SECOND * second + (1 - _SECOND) * slope**2
            mean, power = first / (1 - _FIRST**step), second / (1 - _SECOND**step)
            logits -= _RATE * mean / (np.sqrt(power) + 1e-8)
        return np.asarray(np.clip(floor + (logits > 0), -task.limit, task.limit))

    def _pull(self, up: Floats, step: int) -> Floats:
        """The slope of 1 - |2 up - 1|^beta; none in the first fifth, then beta falls from 20 to 2."""
        progress = (step / self.steps - 0.2) / 0.8
        if progress <= 0:
            return np.zeros_like(up)
        beta, away = 2 + 18 * (1 - progress), 2 * up - 1
        return -self.regularization * 2 * beta * np.sign(away) * np.abs(away) ** (beta - 1)


def _error(task: Task) -> tuple[Floats, Floats, Floats]:
    error = task.nearest() * task.scales - task.weight
    return error, task.products, error
