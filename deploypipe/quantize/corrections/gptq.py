"""Rounding that makes up for itself: each column's error is spread over those still to be rounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deploypipe.quantize.layerwise import Layerwise, Task
from deploypipe.quantize.patches import Floats

_BLOCK = 128


@dataclass(frozen=True)
class Gptq(Layerwise):
    """Weights are rounded one input after the other, the rest is adapted to what went wrong.

    Frantar et al., "GPTQ", 2022 (arXiv:2210.17323), on the layers' inputs in the quantized model,
    with biases settled as by ``sequential``.  ``damping`` is added to the diagonal of the products,
    in units of its mean.
    """

    damping: float = 0.1

    order: ClassVar[int] = 40

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.damping <= 0:
            raise ValueError(f"damping must be positive, got {self.damping:g}")

    def solve(self, task: Task) -> Floats:
        width = task.products.shape[-1]
        power = np.einsum("gii->g", task.products)[:, None, None] / width
        inverse = np.linalg.inv(task.products + (self.damping * power + 1e-12) * np.eye(width))
        upper = np.linalg.cholesky((inverse + inverse.transpose(0, 2, 1)) / 2).transpose(0, 2, 1)
        return _rounded(task.weight.copy(), task, np.asarray(upper, np.float64))


def _rounded(aim: Floats, task: Task, upper: Floats) -> Floats:
    integers, width = np.empty_like(aim), aim.shape[-1]
    for start in range(0, width, _BLOCK):
        end = min(start + _BLOCK, width)
        errors = np.empty_like(aim[..., start:end])
        for i in range(start, end):
            column = aim[..., i : i + 1]
            room = task.room(integers, i)
            near = np.clip(np.rint(column / task.scales), -room, room)
            integers[..., i : i + 1] = near
            error = (column - near * task.scales) / upper[:, i : i + 1, i : i + 1]
            errors[..., i - start : i - start + 1] = error
            aim[..., i:end] -= error * upper[:, i : i + 1, i:end]
        aim[..., end:] -= errors @ upper[:, start:end, end:]
    return integers
