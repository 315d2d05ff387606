"""float64 for every float dtype; everything else as it is."""

from __future__ import annotations

from typing import Any, TypeVar

import ml_dtypes
import numpy as np

T = TypeVar("T")

_NARROW = frozenset({np.dtype(np.float16), np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)})


def is_narrow(array: object) -> bool:
    """Whether it is an array of float16, bfloat16 or float32."""
    return isinstance(array, np.ndarray) and array.dtype in _NARROW


def widened(array: Any) -> Any:
    """A narrow float array as float64; anything else, None and sequences too, untouched."""
    return array.astype(np.float64) if is_narrow(array) else array
