"""The proof that the exported graph answers as the torch module does, on real samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
    """Compare torch and ONNX on every batch; of several of one size the worst counts.

    Whole numbers must be equal, and NaN or infinity must stand in the same places.

    Raises:
        UserError: an output differs by more than ``tolerance`` of the largest output.
    """
    errors: dict[int, float] = {}
    for feeds in batches:
        size = len(next(iter(feeds.values())))
        error, how = _difference(_torch_outputs(module, feeds), list(run(feeds).values()))
        errors[size] = max(error, errors.get(size, 0.0))
        if not error <= tolerance:
            raise UserError(
                f"the exported model differs from torch by {error:.1e} of its largest output"
                f"{how} at batch size {size}, more than {tolerance:.0e}",
                where="export",
                then="The model may behave differently when traced, or depend on the batch size",
            )
    return Parity(errors)


def _torch_outputs(module: torch.nn.Module, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in feeds.values()]
    with torch.no_grad():
        outputs = module.eval()(*tensors)
    return [_array(value) for value in _leaves(outputs)]


def _leaves(outputs: object) -> Iterator[torch.Tensor]:
    """The tensors of an answer in the order in which the exporter gives them."""
    if isinstance(outputs, torch.Tensor):
        yield outputs
    elif isinstance(outputs, Mapping | tuple | list):
        for value in outputs.values() if isinstance(outputs, Mapping) else outputs:
            yield from _leaves(value)


def _array(value: torch.Tensor) -> np.ndarray:
    return (value.float() if value.dtype == torch.bfloat16 else value).detach().cpu().numpy()


def _difference(expected: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> tuple[float, str]:
    """The largest relative difference, and what kind it is where a number does not tell."""
    if len(expected) != len(got):
        return float("inf"), f" ({len(expected)} outputs against {len(got)})"
    worst = 0.0
    for a, b in zip(expected, got, strict=True):
        if a.shape != b.shape:
            return float("inf"), f" (shape {list(a.shape)} against {list(b.shape)})"
        if a.dtype.kind in "biu":
            if not np.array_equal(a, b):
                return float("inf"), f" ({int((a != b).sum())} of {a.size} whole numbers)"
            continue
        finite = np.isfinite(a)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return float("inf"), " (NaN or infinity in other places)"
        worst = max(worst, _relative(a[finite].astype(np.float64), b[finite].astype(np.float64)))
    return worst, " (NaN or infinity in other places)" if worst == float("inf") else ""


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    if not np.isfinite(b).all():
        return float("inf")
    scale = float(np.abs(a).max(initial=0.0)) or 1.0
    return float(np.abs(a - b).max(initial=0.0)) / scale
