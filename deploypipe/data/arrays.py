"""Arrays in memory whose first axis is the samples: what ``npz`` and ``python`` sources hold."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deploypipe.core.errors import UserError
from deploypipe.data.source import numbered

LABEL = "label"

NPZ_ERRORS = (
    OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, OverflowError,
    MemoryError,
)  # fmt: skip
"""What a damaged ``.npz`` raises when it is read, a way of packing that is unknown among it."""


@dataclass(frozen=True)
class Arrays:
    """Checked arrays of N samples each: ``inputs`` by the model's names, ``labels`` or None."""

    inputs: Mapping[str, np.ndarray]
    labels: np.ndarray | None
    ids: tuple[str, ...]

    def digests(self) -> tuple[str, ...]:
        """Hex sha256 per sample over names, dtypes, shapes and bytes of the inputs."""
        head = repr([(k, str(v.dtype), v.shape[1:]) for k, v in sorted(self.inputs.items())])
        return tuple(self._digest(row, head.encode()) for row in range(len(self.ids)))

    def _digest(self, row: int, head: bytes) -> str:
        sha = hashlib.sha256(head)
        for _, array in sorted(self.inputs.items()):
            sha.update(np.ascontiguousarray(array[row]).tobytes())
        return sha.hexdigest()

    def at(self, indices: Sequence[int]) -> dict[str, np.ndarray]:
        """The inputs of some samples."""
        rows = list(indices)
        return {name: array[rows] for name, array in self.inputs.items()}


def checked(given: Mapping[str, object], where: str, name: str) -> Arrays:
    """``given`` as :class:`Arrays`; the entry ``label``, if any, becomes the labels.

    Ids are ``name#000000`` and so on.

    Raises:
        UserError: no input, no samples' axis, differing lengths, not numbers, NaN or infinity.
    """
    arrays = {str(key): numeric(value, str(key), where) for key, value in given.items()}
    _check_lengths(arrays, where)
    label = arrays.pop(LABEL, None)
    if not arrays:
        raise UserError(
            "there are no inputs", where=where, then="Name each array after an input of the model"
        )
    count = len(next(iter(arrays.values())))
    ids = numbered(name, count)
    for key, array in arrays.items():
        check_finite(array, key, ids)
    return Arrays(arrays, None if label is None else labels_of(label, ids), ids)


def labels_of(values: np.ndarray, ids: Sequence[str]) -> np.ndarray:
    """Labels as int64 (integers, booleans) or float64.

    Raises:
        UserError: a label is NaN or infinite.
    """
    check_finite(values, LABEL, ids)
    return values.astype(np.float64 if values.dtype.kind == "f" else np.int64)


def check_finite(array: np.ndarray, name: str, ids: Sequence[str]) -> None:
    """Raise a user's error that names the first sample with NaN or infinity."""
    if array.dtype.kind != "f":
        return
    bad = ~np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
    if bad.any():
        first = ids[int(bad.argmax())]
        raise UserError(
            f"'{name}' holds NaN or infinity, first in sample {first} ({bad.sum()} samples in all)",
            where=name,
            then="Mend or take out these samples",
        )


def numeric(value: object, key: str, where: str) -> np.ndarray:
    """Anything that becomes an array of numbers or booleans: lists, tensors on the CPU.

    Raises:
        UserError: it does not.
    """
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged lists, tensors that need grad
        raise UserError(f"'{key}' is no array: {error}", where=where) from error
    if array.dtype.kind not in "biuf":
        raise UserError(f"'{key}' holds {array.dtype}, expected numbers or booleans", where=where)
    return array


def _check_lengths(arrays: Mapping[str, np.ndarray], where: str) -> None:
    for key, array in arrays.items():
        if array.ndim == 0:
            raise UserError(f"'{key}' is one number, it has no axis for the samples", where=where)
    lengths = {key: len(array) for key, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"'{key}' has {length}" for key, length in lengths.items())
        raise UserError(
            f"the arrays differ in their number of samples: {told}",
            where=where,
            then="The first axis is the samples, the same for all arrays",
        )
