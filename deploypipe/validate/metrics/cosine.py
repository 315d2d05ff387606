"""Cosine between a sample's output and its label, both vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deploypipe.validate import Metric


@dataclass(frozen=True)
class Cosine(Metric):
    """Mean cosine between outputs and labels, for embeddings; a zero vector has cosine 0."""

    unit: ClassVar[str] = "cosine"
    takes: ClassVar[str] = "outputs and labels of one shape, vectors of two values or more"

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        fits = len(outputs) == len(labels) and outputs.size == labels.size > len(outputs)
        if not fits:
            raise self.refuse(outputs, labels)
        return cosines(outputs, labels)


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine [N] of the samples of two arrays [N, ...]; 0 for a zero vector beside another, and 1
    for two zero vectors, which are equal."""
    width = int(np.prod(first.shape[1:]))
    a, b = (side.reshape(len(side), width).astype(np.float64) for side in (first, second))
    lengths = np.sqrt((a * a).sum(axis=1)), np.sqrt((b * b).sum(axis=1))
    zero = (lengths[0] == 0) & (lengths[1] == 0)
    product = lengths[0] * lengths[1]
    found = (a * b).sum(axis=1) / np.where(product == 0, 1, product)
    return np.asarray(np.where(zero, 1.0, np.clip(found, -1, 1)))
