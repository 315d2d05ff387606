"""Sliding windows: where the taps of convolutions and pools lie, in any number of dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Windows:
    """One number per spatial dimension each: ``before`` and ``after`` are the declared pads."""

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    ceil: bool = False

    @classmethod
    def of(cls, node: ir.Node, sizes: Sequence[int], kernel: Sequence[int]) -> Windows:
        """The windows of a Conv or pool over an input of spatial ``sizes``."""
        ones = [1] * len(sizes)
        strides = node.attributes.get_ints("strides", ones) or ones
        dilations = node.attributes.get_ints("dilations", ones) or ones
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        before, after = _pads(node, sizes, spans, strides)
        ceil = bool(node.attributes.get_int("ceil_mode", 0))
        parts = (sizes, kernel, strides, dilations, before, after)
        n, k, s, d, low, high = (tuple(int(i) for i in part) for part in parts)
        return cls(n, k, s, d, low, high, ceil)

    @property
    def outputs(self) -> tuple[int, ...]:
        """Spatial sizes of the output; with ceil, windows that begin behind the image are none."""
        found = []
        for size, span, stride, low, high in self._axes():
            room = size + low + high - span
            count = (-(-room // stride) if self.ceil else room // stride) + 1
            found.append(count - (self.ceil and (count - 1) * stride >= size + low))
        return tuple(found)

    def padded(self, x: Array, fill: float) -> Array:
        """``x`` [N, C, ...] with everything that a window touches; itself, if that is no more."""
        needed = [
            max((count - 1) * stride + span, low + size)
            for count, (size, span, stride, low, _) in zip(self.outputs, self._axes(), strict=True)
        ]
        if list(x.shape[2:]) == needed:
            return x
        whole = np.full((*x.shape[:2], *needed), fill, x.dtype)
        axes = zip(self.before, self.sizes, strict=True)
        whole[last_axes(slice(low, low + n) for low, n in axes)] = x
        return whole

    def taps(self, whole: Array) -> Iterator[Array]:
        """For every tap in order a view [N, C, *outputs] of a padded input."""
        for tap in product(*map(range, self.kernel)):
            steps = zip(tap, self.dilations, self.strides, self.outputs, strict=True)
            yield whole[last_axes(slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, s, n in steps)]

    def view(self, whole: Array) -> Array:
        """All taps at once, a view [N, C, *kernel, *outputs] of a padded input."""
        steps = whole.strides[2:]
        inside = [step * d for step, d in zip(steps, self.dilations, strict=True)]
        across = [step * s for step, s in zip(steps, self.strides, strict=True)]
        shape = (*whole.shape[:2], *self.kernel, *self.outputs)
        strides = (*whole.strides[:2], *inside, *across)
        return np.lib.stride_tricks.as_strided(whole, shape, strides, writeable=False)

    def counts(self, include_pads: bool) -> Array:
        """How many places of every window lie on the image, or on it and its declared pads."""
        count = np.ones(())
        for axis, (size, _, stride, low, high) in enumerate(self._axes()):
            first = np.arange(self.outputs[axis])[:, None] * stride
            place = first + np.arange(self.kernel[axis]) * self.dilations[axis]
            start, end = (0, size + low + high) if include_pads else (low, low + size)
            count = np.multiply.outer(count, ((place >= start) & (place < end)).sum(1))
        return count

    def _axes(self) -> Iterator[tuple[int, int, int, int, int]]:
        spans = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        return zip(self.sizes, spans, self.strides, self.before, self.after, strict=True)


def last_axes(places: Iterable[slice | int]) -> tuple[Any, ...]:
    """An index of the last axes; those before are taken whole."""
    return (..., *places)


def _pads(
    node: ir.Node, sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int]
) -> tuple[Sequence[int], Sequence[int]]:
    """Pads before and after, from ``pads`` or ``auto_pad``."""
    auto, rank = node.attributes.get_string("auto_pad", "NOTSET"), len(sizes)
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        axes = zip(sizes, spans, strides, strict=True)
        total = [max((-(-n // s) - 1) * s + span - n, 0) for n, span, s in axes]
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        return (less, more) if auto == "SAME_UPPER" else (more, less)
    pads = list(node.attributes.get_ints("pads", []) or []) if auto != "VALID" else []
    pads = pads or [0] * (2 * rank)
    return pads[:rank], pads[rank:]
