"""The decoded images of a split, each decoded once while all of them fit into memory."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from deploypipe.core.progress import Progress
from deploypipe.data.preprocess import Preprocess, check_same_shape
from deploypipe.data.source import Source

KEPT_BYTES = 2 << 30
"""Splits with more bytes of pixels than this are decoded again each time they are read."""
CHUNK = 256
"""Images decoded at a time: bounds the memory that images before their resize take."""


class Decoded:
    """uint8 ``[N, H, W, C]`` of ``rows`` of a source, after resize and channels."""

    def __init__(self, source: Source, rows: Sequence[int], preprocess: Preprocess) -> None:
        self.source, self.rows, self.preprocess = source, rows, preprocess
        self._ids = source.ids()
        self._there = np.zeros(len(rows), bool)

    def read(self, positions: Sequence[int]) -> np.ndarray:
        """The images at ``positions`` of ``rows``."""
        if not self.kept:
            return self._decode(positions)
        self._fill([p for p in dict.fromkeys(positions) if not self._there[p]])
        return np.take(self._pixels, positions, axis=0)

    def warm(self, count: int, progress: Progress, label: str) -> None:
        """Decode the first ``count`` images now, where they are kept and not yet there."""
        missing = np.flatnonzero(~self._there[:count]).tolist() if self.kept else []
        if len(missing) <= CHUNK:
            return  # too few to be worth a bar; the next read decodes them
        with progress.task(label, len(missing)) as task:
            for start in range(0, len(missing), CHUNK):
                chunk = missing[start : start + CHUNK]
                self._fill(chunk)
                task.advance(len(chunk))

    @functools.cached_property
    def kept(self) -> bool:
        """Whether decoded images stay in memory."""
        return int(np.prod(self._shape)) * len(self.rows) <= KEPT_BYTES

    @functools.cached_property
    def _shape(self) -> tuple[int, ...]:
        """``[H, W, C]`` of the first image, hence of all."""
        return self._fitted([0]).shape[1:]

    @functools.cached_property
    def _pixels(self) -> np.ndarray:
        return np.empty((len(self.rows), *self._shape), np.uint8)

    def _fill(self, positions: Sequence[int]) -> None:
        for start in range(0, len(positions), CHUNK):
            chunk = positions[start : start + CHUNK]
            self._pixels[chunk] = self._decode(chunk)
            self._there[chunk] = True

    def _decode(self, positions: Sequence[int]) -> np.ndarray:
        images = self._fitted(positions)
        names = self._ids[self.rows[0]], self._ids[self.rows[positions[0]]]
        check_same_shape(self._shape, names[0], images.shape[1:], names[1])
        return images

    def _fitted(self, positions: Sequence[int]) -> np.ndarray:
        rows = [self.rows[p] for p in positions]
        images = self.source.read(rows).images
        if images is None:
            raise TypeError(f"{type(self.source).__name__} gives images for some rows only")
        return self.preprocess.fit(images, [self._ids[row] for row in rows])
