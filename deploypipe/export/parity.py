"""The proof that the exported graph answers as the torch module does, on real samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from deploypipe.core.errors import UserError

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Parity:
    """Largest absolute difference over the largest absolute output, per batch size."""

    errors: Mapping[int, float]

    @property
    def worst(self) -> float:
        """The largest relative error."""
        return max(self.errors.values())


def check_parity(
    module: torch.nn.Module,
    run: Run,
    batches: Sequence[Mapping[str, np.ndarray]],
    tolerance: float,
) -> Parity:
    """Compare torch and ONNX on every batch.

    Raises:
        UserError: an output differs by more than ``tolerance`` of the largest output.
    """
    errors: dict[int, float] = {}
    for feeds in batches:
        size = len(next(iter(feeds.values())))
        errors[size] = _error(_torch_outputs(module, feeds), list(run(feeds).values()))
        if not errors[size] <= tolerance:
            raise UserError(
                f"the exported model differs from torch by {errors[size]:.1e} of its largest "
                f"output at batch size {size}, more than {tolerance:.0e}",
                where="export",
                then="The model may behave differently when traced, or depend on the batch size",
            )
    return Parity(errors)


def _torch_outputs(module: torch.nn.Module, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in feeds.values()]
    with torch.no_grad():
        outputs = module.eval()(*tensors)
    outputs = outputs if isinstance(outputs, tuple | list) else [outputs]
    return [value.float().numpy() for value in outputs]


def _error(expected: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> float:
    worst = 0.0
    for a, b in zip(expected, got, strict=True):
        if a.shape != b.shape:
            return float("inf")
        scale = float(np.abs(a).max(initial=0.0)) or 1.0
        error = float(np.abs(a - b).max(initial=0.0)) / scale
        if not np.isfinite(error):
            return float("inf")  # max() would pass over NaN
        worst = max(worst, error)
    return worst
