"""A NumPy archive whose arrays are named after the model's inputs."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploypipe.core.errors import UserError
from deploypipe.data.arrays import NPZ_ERRORS, Arrays, checked
from deploypipe.data.source import Raw, Source


@dataclass(frozen=True)
class Npz(Source):
    """Arrays named after the model's inputs, first axis = samples, and optionally ``label``.

    Fed as they are: no preprocessing applies.  Pickled objects are refused, never loaded.
    """

    file: Path

    def ids(self) -> Sequence[str]:
        return self._arrays.ids

    def digests(self) -> Sequence[str]:
        return self._digests

    def read(self, indices: Sequence[int]) -> Raw:
        return Raw(inputs=self._arrays.at(indices))

    def labels(self) -> np.ndarray | None:
        return self._arrays.labels

    @functools.cached_property
    def _arrays(self) -> Arrays:
        return checked(self._loaded(), str(self.file), self.file.name)

    @functools.cached_property
    def _digests(self) -> tuple[str, ...]:
        return self._arrays.digests()

    def _loaded(self) -> Mapping[str, np.ndarray]:
        try:
            loaded = np.load(self.file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):  # a .npy file
                raise self._unreadable("it holds one array without a name")
            with loaded as archive:
                return {name: archive[name] for name in archive.files}
        except NPZ_ERRORS as error:
            why = "it holds pickled objects" if "allow_pickle" in str(error) else str(error)
            raise self._unreadable(why) from error

    def _unreadable(self, why: str) -> UserError:
        return UserError(
            f"cannot be read as arrays: {why}",
            where=str(self.file),
            then="Write it with numpy.savez(FILE, input_name=array, label=labels)",
        )
