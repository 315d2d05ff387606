"""1797 handwritten digits that scikit-learn brings along; needs no download.

Source: Alpaydin and Kaynak 1998, UCI "Optical Recognition of Handwritten Digits".
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits

from deploypipe.data.source import Raw, Source


@dataclass(frozen=True)
class Digits(Source):
    """8x8 grey images of handwritten digits (scikit-learn's), 1797 samples, 10 classes."""

    def ids(self) -> Sequence[str]:
        return tuple(f"digits/{row:04d}" for row in range(len(self._images)))

    def digests(self) -> Sequence[str]:
        return tuple(hashlib.sha256(image.tobytes()).hexdigest() for image in self._images)

    def read(self, indices: Sequence[int]) -> Raw:
        return Raw(images=self._images[list(indices)])

    def labels(self) -> np.ndarray:
        return np.asarray(load_digits().target, np.int64)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(str(digit) for digit in range(10))

    @functools.cached_property
    def _images(self) -> np.ndarray:
        """uint8 ``[1797, 8, 8, 1]``; the grey values 0..16 are stretched to 0..255."""
        grey = np.round(load_digits().images * 255 / 16).astype(np.uint8)
        return np.asarray(grey[..., None])
