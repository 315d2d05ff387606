"""Splits that give batches, and the data that hold them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deploypipe.core.errors import UserError
from deploypipe.core.files import Json, digest_json
from deploypipe.core.progress import Progress, Silent
from deploypipe.data.arrays import check_finite
from deploypipe.data.decoded import Decoded
from deploypipe.data.preprocess import Preprocess
from deploypipe.data.source import Source


@dataclass(frozen=True)
class Batch:
    """N samples as the model takes them.

    ``inputs``: arrays ``[N, ...]`` by the model's input names; images are float32 ``[N, C, H, W]``.
    ``labels``: int64 or float64 ``[N, ...]``, or None.
    """

    ids: tuple[str, ...]
    inputs: dict[str, np.ndarray]
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.ids)


class Split:
    """Some rows of a source, in a fixed order that looks random: any prefix is a fair sample."""

    def __init__(
        self,
        name: str,
        source: Source,
        rows: Sequence[int],
        preprocess: Preprocess,
        *,
        input: str = "image",
        progress: Progress | None = None,
    ) -> None:
        self.name, self.source, self.rows = name, source, tuple(rows)
        self.preprocess, self.input = preprocess, input
        self._progress = progress or Silent()
        self._decoded = Decoded(source, self.rows, preprocess)

    def __len__(self) -> int:
        return len(self.rows)

    @functools.cached_property
    def ids(self) -> tuple[str, ...]:
        """The samples' ids, in order."""
        all_ids = self.source.ids()
        return tuple(all_ids[row] for row in self.rows)

    @functools.cached_property
    def labels(self) -> np.ndarray | None:
        """int64 or float64 ``[N, ...]``, in order; None where the source has none."""
        labels = self.source.labels()
        return None if labels is None else labels[list(self.rows)]

    @functools.cached_property
    def contents(self) -> tuple[str, ...]:
        """The samples' content digests, in order."""
        digests = self.source.digests()
        return tuple(digests[row] for row in self.rows)

    @functools.cached_property
    def digest(self) -> str:
        """Hex sha256 over ids, content digests and labels, in order; preprocessing is not in it."""
        labels = None if self.labels is None else self.labels.tolist()
        return digest_json([self.ids, self.contents, labels])

    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples at ``indices`` of this split, preprocessed.

        Raises:
            UserError: an image is damaged or does not fit the preprocessing, an input is not finite.
        """
        positions = [range(len(self))[int(i)] for i in indices]
        if not positions:
            raise ValueError("a batch needs at least one index")
        ids = tuple(self.ids[p] for p in positions)
        labels = None if self.labels is None else self.labels[positions]
        return Batch(ids, self._inputs(positions, ids), labels)

    def batches(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """The first ``limit`` samples (default: all) in order; the last batch may be smaller.

        Raises:
            UserError: ``limit`` is above the number of samples.
        """
        count = self._count(limit)
        if size < 1:
            raise UserError(f"the batch size must be at least 1, got {size}", where=self.name)
        return self._iterate(size, count)

    def first(self, count: int) -> Split:
        """The first ``count`` samples, as a split of the same name.

        Raises:
            UserError: there are not so many.
        """
        return self._of(self.rows[: self._count(count)])

    def shard(self, number: int, of: int) -> Split:
        """The ``number``-th (from 1) of ``of`` parts that follow each other, as equal as they can be.

        Raises:
            UserError: there is no such part, or there are fewer samples than parts.
        """
        if not 1 <= number <= of <= len(self):
            raise UserError(
                f"there is no part {number} of {of} of {len(self)} samples", where=self.name
            )
        return self._of(self.rows[(number - 1) * len(self) // of : number * len(self) // of])

    def decode(self, limit: int | None = None) -> None:
        """Decode the first ``limit`` images now, with progress; :meth:`batches` does so by itself."""
        if self.gives_images:
            self._decoded.warm(self._count(limit), self._progress, f"decode {self.name}")

    @functools.cached_property
    def gives_images(self) -> bool:
        """Whether the samples are images, to which the preprocessing applies."""
        return self.source.read(self.rows[:1]).images is not None

    def _count(self, limit: int | None) -> int:
        count = len(self) if limit is None else limit
        if not 1 <= count <= len(self):
            raise UserError(
                f"{count} samples were asked for, the {self.name} split has {len(self)}",
                where=self.name,
                then=f"Ask for 1 to {len(self)}, or enlarge the split",
            )
        return count

    def _of(self, rows: Sequence[int]) -> Split:
        return Split(
            self.name,
            self.source,
            rows,
            self.preprocess,
            input=self.input,
            progress=self._progress,
        )

    def _iterate(self, size: int, count: int) -> Iterator[Batch]:
        self.decode(count)
        for start in range(0, count, size):
            yield self.batch(range(start, min(start + size, count)))

    def _inputs(self, positions: list[int], ids: Sequence[str]) -> dict[str, np.ndarray]:
        if self.gives_images:
            return {self.input: self.preprocess.normalise(self._decoded.read(positions))}
        given = self.source.read([self.rows[p] for p in positions]).inputs or {}
        for name, array in given.items():
            check_finite(array, name, ids)
        return dict(given)


@dataclass(frozen=True)
class Data:
    """Named splits of one or more sources, with one preprocessing.

    ``specs`` is what the user wrote: ``source`` and, where given, ``validation``, ``calibration``.
    """

    specs: Mapping[str, Json]
    splits: Mapping[str, Split]
    preprocess: Preprocess
    classes: tuple[str, ...] | None
    notes: list[str]
    seed: int = 0
    where: str = "data"

    def split(self, name: str) -> Split:
        """The split called ``name``.

        Raises:
            UserError: there is none.
        """
        if name in self.splits:
            return self.splits[name]
        then = f"Set {self.where}.split.{name} to a number of samples"
        then += f", or {self.where}.{name} to a source" if name != "train" else ""
        raise UserError(f"there are no samples for {name}", where=self.where, then=then)

    @functools.cached_property
    def digest(self) -> str:
        """Hex sha256 of contents, labels, splits and preprocessing; equal in every process."""
        splits = {
            name: [split.digest, split.input, split.source.settings()]
            for name, split in self.splits.items()
        }
        return digest_json([splits, self.preprocess.model_dump(mode="json")])

    def check_labels(self, classes: int) -> None:
        """Check that every label there is lies in 0..classes-1; 255 in a mask means "ignore".

        Raises:
            UserError: a label is out of range, or not an integer; names the first sample.
        """
        for split in self.splits.values():
            if split.labels is not None:
                _check_range(split.labels, split.ids, classes)

    def describe(self) -> Json:
        """What a report tells about the data, as plain JSON."""
        own = {name: split for name, split in self.splits.items() if name == split.name}
        return {
            **self.specs,
            "seed": self.seed,
            "splits": {
                name: {"samples": len(split), "digest": split.digest} for name, split in own.items()
            },
            "preprocess": self.preprocess.model_dump(mode="json"),
            "classes": list(self.classes) if self.classes else None,
            "digest": self.digest,
            "notes": list(self.notes),
        }


def names_classes(labels: np.ndarray | None) -> bool:
    """Whether labels are classes: one whole number a sample, int [N] or [N, 1]."""
    return labels is not None and labels.dtype.kind == "i" and labels.size == len(labels)


def _check_range(labels: np.ndarray, ids: Sequence[str], classes: int) -> None:
    if labels.dtype.kind != "i":
        raise UserError(
            f"the labels are {labels.dtype}, a classifier needs integers: {ids[0]} has {labels[0]}",
            where="labels",
        )
    bad = (labels < 0) | (labels >= classes)
    if labels.ndim > 1:
        bad &= labels != 255
    bad = bad.reshape(len(labels), -1)
    if not bad.any():
        return
    first = int(bad.any(axis=1).argmax())
    value = labels[first].reshape(-1)[int(bad[first].argmax())]
    raise UserError(
        f"sample {ids[first]} has label {value}, the model has {classes} classes "
        f"(0 to {classes - 1}); {bad.any(axis=1).sum()} samples are out of range",
        where="labels",
        then="Give data with the model's own classes, or mend the labels",
    )
