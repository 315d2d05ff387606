"""What a data source is: samples with stable ids, content digests and labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deploypipe.core.files import Json
from deploypipe.core.shelf import Shelf


@dataclass(frozen=True)
class Raw:
    """Samples as a source gives them: images, or arrays named after the model's inputs.

    ``images``: uint8 ``[H, W, C]`` each, C is 1 (grey) or 3 (RGB); sizes may differ, and the recipe's
    preprocessing still applies.  ``inputs``: arrays whose first axis is the samples; fed as they are.
    """

    images: Sequence[np.ndarray] | np.ndarray | None = None
    inputs: Mapping[str, np.ndarray] | None = None


class Source(ABC):
    """A finite, ordered set of samples.

    Options are the constructor's parameters and the first is the argument of ``source:argument``.
    A parameter annotated ``Path`` arrives absolute (relative paths start at the recipe's folder,
    ``~`` and ``$VARS`` are expanded) and exists.
    """

    @abstractmethod
    def ids(self) -> Sequence[str]:
        """A stable name per sample, such as ``digits/0017`` or ``train.parquet#000123``."""

    @abstractmethod
    def digests(self) -> Sequence[str]:
        """Hex sha256 of each sample's content without its label; must not decode images."""

    @abstractmethod
    def read(self, indices: Sequence[int]) -> Raw:
        """The samples at ``indices``, in that order."""

    def labels(self) -> np.ndarray | None:
        """int64 or float64, first axis = samples; None where there are none.  Decodes nothing."""
        return None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class names in the order of the integer labels, where known."""
        return None

    def settings(self) -> Json:
        """What else decides the arrays that :meth:`read` gives; part of the data's digest."""
        return {}

    def notes(self) -> list[str]:
        """Sentences for the report: what was skipped and why."""
        return []

    def __len__(self) -> int:
        return len(self.ids())


SOURCES: Shelf[Source] = Shelf("source", "deploypipe.data.sources", Source)


def numbered(name: str, count: int) -> tuple[str, ...]:
    """Ids ``name#000000``, ``name#000001``, ..."""
    return tuple(f"{name}#{row:06d}" for row in range(count))
