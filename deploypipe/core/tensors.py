"""What a model's input or output looks like, without any framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deploypipe.core.errors import UserError, did_you_mean


@dataclass(frozen=True)
class TensorSpec:
    """Name, numpy dtype name and shape; a dynamic dimension is its symbol or ``?``."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def fits(self, array: np.ndarray) -> bool:
        """Whether an array has this dtype, rank and fixed sizes."""
        sizes = zip(array.shape, self.shape, strict=False)
        same = all(not isinstance(want, int) or have == want for have, want in sizes)
        return array.dtype == self.dtype and array.ndim == len(self.shape) and same

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


def fixed_batch(specs: Sequence[TensorSpec]) -> int | None:
    """The batch size that a model was exported for; None where any will do.

    Also None where its inputs are fixed at several, which no batch fits.
    """
    fixed = {spec.shape[0] for spec in specs if spec.shape and isinstance(spec.shape[0], int)}
    return int(fixed.pop()) if len(fixed) == 1 else None


def check_feeds(feeds: Mapping[str, np.ndarray], specs: Sequence[TensorSpec], where: str) -> None:
    """Raise a user's error where arrays and a model's inputs do not fit each other."""
    names = [spec.name for spec in specs]
    for name in feeds:
        if name not in names:
            raise UserError(
                f"the samples have '{name}', which is no input of the model, "
                f"{did_you_mean(name, names)}",
                where=where,
            )
    for spec in specs:
        if spec.name not in feeds:
            raise UserError(f"the samples lack the model's input '{spec.name}'", where=where)
        if not spec.fits(feeds[spec.name]):
            have = feeds[spec.name]
            raise UserError(
                f"the model takes {spec}, the samples are {have.dtype}{list(have.shape)}",
                where=where,
                then="Set data.preprocess so that shapes and dtypes fit",
            )
