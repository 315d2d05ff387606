"""Arrays that stay in their files until they are looked at."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

_MAPS: WeakSet[mmap.mmap] = WeakSet()


def mapped_array(file: Path, offset: int, dtype: npt.DTypeLike, shape: Sequence[int]) -> np.ndarray:
    """An array of ``dtype`` and ``shape``, read-only, whose bytes begin at ``offset`` of a file.

    The file may be replaced while the array is used, not cut short.
    """
    kind = np.dtype(dtype)
    count = int(np.prod(shape))
    if count == 0:
        return np.empty(tuple(shape), kind)
    start = offset - offset % mmap.ALLOCATIONGRANULARITY
    length = offset - start + count * kind.itemsize
    with file.open("rb") as handle:
        pages = mmap.mmap(handle.fileno(), length, access=mmap.ACCESS_READ, offset=start)
    _MAPS.add(pages)
    return np.frombuffer(pages, kind, count, offset - start).reshape(tuple(shape))


def let_go() -> None:
    """Hold none of their pages in memory any longer; the next look reads them again."""
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        for pages in list(_MAPS):
            pages.madvise(mmap.MADV_DONTNEED)
