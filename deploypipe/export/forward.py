"""Running a user's module once, with what goes wrong in it told as a user's error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from deploypipe.core.errors import UserError


def forward(
    module: torch.nn.Module, feeds: Mapping[str, np.ndarray], *, where: str, then: str
) -> Any:
    """The module's answer, in inference; ``feeds`` go by position, in their order.

    Raises:
        UserError: ``forward()`` raises; names the samples' shapes, ``where`` and what ``then``.
    """
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in feeds.values()]
    try:
        with torch.no_grad():
            return module(*tensors)
    except Exception as error:  # whatever the user's forward() raises
        shapes = ", ".join(f"{name} {a.dtype}{list(a.shape)}" for name, a in feeds.items())
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"the model cannot take the samples ({shapes}): {type(error).__name__}: {reason}",
            where=where,
            then=then,
        ) from error
