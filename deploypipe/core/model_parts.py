"""A model in memory whose weights are not copied into one string."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ModelParts:
    """``graph`` is an ONNX file's content that names its large weights as data outside, and
    ``weights`` are those, by name: arrays of any shape, held and never written to.

    What protobuf cannot hold (2 GiB) can be run so, and no weight is copied for it.
    """

    graph: bytes
    weights: Mapping[str, npt.NDArray[Any]]
    folder: Path | None = None
    """Where the files lie that hold the weights which are in neither of the two."""
    lean: bool = False
    """The runtime shall not lay weights out anew for its kernels: slower, and half the memory."""


def is_usable(array: np.ndarray) -> bool:
    """Whether a runtime can take the array as it lies there."""
    return array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative
