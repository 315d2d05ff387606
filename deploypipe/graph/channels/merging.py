"""Which constants stay for the others to be merged into: a basis of what the readers see.

One sum needs one:  w[o, r] += w[o, i] * c_i / c_r.  Where several sums read one weight, as those of
a head that all levels of a pyramid share, a channel is a vector with a number for each of them.
As many stay as these are independent, and w[o, r] += w[o, i] * a[i, r] for c_i = sum_r a[i, r] c_r.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Index
from deploypipe.graph.channels.rule import Absorb, Constants, Rule, Sink

_finfo: Any = ml_dtypes.finfo  # numpy's does not know bfloat16

CLOSE = 0.1
"""A constant is merged into one that is at least this share of the largest of its tensor: the
weights then grow by less than tenfold, and with them the rounding."""

ROUNDING = 4
"""Vectors are as good as dependent if they are so up to this many roundings of their dtype."""

Bundle = list[tuple[Rule, Sink]]
"""The sums that read one weight, which can only be changed for all of them."""


def bundles(sinks: Iterable[tuple[Rule, Sink]]) -> list[Bundle]:
    """Sums by the weight that they share; those with one of their own are alone.

    The narrow ones first: what stays for them can serve the wide ones, which have more to choose.
    """
    found: dict[ir.Value | Sink, Bundle] = {}
    alone: list[Bundle] = []
    for rule, sink in sinks:
        if sink.shared is None:
            alone.append([(rule, sink)])
        else:
            found.setdefault(sink.shared, []).append((rule, sink))
    whole = [*alone, *found.values()]
    return sorted(whole, key=lambda bundle: len(bundle[0][1].reads))


def absorb_of(bundle: Bundle) -> Absorb:
    """What all of them can do."""
    ways = {sink.absorb for _, sink in bundle}
    for way in (Absorb.NOT, Absorb.MERGE):
        if way in ways:
            return way
    return Absorb.FOLD


def find_basis(vectors: np.ndarray, loss: np.ndarray, stays: np.ndarray, tiny: float) -> Index:
    """Few places whose vectors, float64 [readers, size], make up all those in ``loss``.

    Largest remainders first, so that no share is large; places that stay anyway (bool [size], as
    ``loss``) are preferred where they are not too small.  ``tiny`` is a remainder of no meaning.
    """
    rest, basis = vectors, []
    for _ in range(len(vectors)):
        size = np.linalg.norm(rest, axis=0)
        most = size[loss].max(initial=0.0)
        if most <= tiny:
            break
        kept = np.where(stays, size, 0.0)
        enough = kept.max() >= max(CLOSE * most, tiny)
        best = int(np.argmax(kept if enough else np.where(loss, size, 0.0)))
        basis.append(best)
        unit = rest[:, best] / size[best]
        rest = rest - np.outer(unit, unit @ rest)
    return np.array(basis, np.int64)


def shares(vectors: np.ndarray, index: Index, basis: Index) -> np.ndarray:
    """float64 [places of the basis, index]: how much of each vector makes up those of ``index``."""
    if len(basis) == 1:
        reader = int(np.argmax(np.abs(vectors[:, basis[0]])))
        return np.asarray(vectors[reader, index] / vectors[reader, basis[0]])[None]
    return np.asarray(np.linalg.lstsq(vectors[:, basis], vectors[:, index], rcond=None)[0])


def folded(index: Index, numbers: np.ndarray) -> Constants:
    """Constants of a reader, float64 [size], that go into its bias."""
    count = len(index)
    return Constants(index, numbers[index], np.full(count, -1), np.zeros(count))


def merged(vectors: np.ndarray, reader: int, places: Iterable[tuple[Index, Index]]) -> Constants:
    """What a reader's constants go into; ``places`` are those that go and their basis."""
    index, into, ratio = [], [], []
    for gone, basis in places:
        index.append(np.repeat(gone, len(basis)))
        into.append(np.tile(basis, len(gone)))
        ratio.append(shares(vectors, gone, basis).T.reshape(-1))
    places_ = np.concatenate(index)
    return Constants(places_, vectors[reader, places_], np.concatenate(into), np.concatenate(ratio))


def rounding_of(sinks: Bundle) -> float:
    """What two equal numbers may differ by, relative to the larger, in the dtype of a sum."""
    dtype = sinks[0][1].axis[0].dtype
    kind = np.dtype(np.float32) if dtype is None else dtype.numpy()
    return 0.0 if kind.kind in "iu" else ROUNDING * float(_finfo(kind).eps)
