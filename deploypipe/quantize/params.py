"""Scales and zero points: real = scale * (integer - zero point)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deploypipe.core.mapped import let_go
from deploypipe.quantize.histogram import Range

_SMALLEST = 2.0**-60
_BIAS_LIMIT = 2**30
"""Half of what int32 holds: the other half is for the sum of products that the bias is added to."""


@dataclass(frozen=True)
class QParams:
    """Of an activation, one scale (a float32's value) and one zero point in 0..255."""

    scale: float
    zero_point: int

    @property
    def range(self) -> Range:
        """The real values of the integers 0 and 255."""
        return Range(-self.zero_point * self.scale, (255 - self.zero_point) * self.scale)


@dataclass(frozen=True)
class WeightParams:
    """Of a weight, one scale per output channel along ``axis``; the zero point is 0."""

    scales: tuple[float, ...]
    axis: int
    limit: int


def activation_params(
    chosen: Range,
    low: float = -math.inf,
    high: float = math.inf,
    levels: int = 255,
    symmetric: bool = False,
) -> QParams:
    """uint8 parameters that cover ``chosen``, cut to what the graph says, and hold zero exactly.

    A tensor that was always zero gets the range [0, 1].  ``symmetric`` puts zero at 128, and as
    much below it as above.
    """
    lowest = max(min(chosen.low, 0.0), low)
    highest = min(max(chosen.high, 0.0), high)
    if highest == lowest:
        highest = min(1.0, high)
    if symmetric:
        largest = max(highest, -lowest)
        return QParams(float(np.float32(max(largest / (levels // 2), _SMALLEST))), levels // 2 + 1)
    scale = float(np.float32(max((highest - lowest) / levels, _SMALLEST)))
    return QParams(scale, min(max(round(-lowest / scale), 0), levels))


def weight_params(
    weight: npt.NDArray[np.float32],
    axis: int,
    limit: int,
    bias: npt.NDArray[np.float32] | None = None,
    input_scale: float = 1.0,
    pair_limit: int | None = None,
) -> WeightParams:
    """Symmetric scales, the largest weight of each channel at ``limit``.

    With a ``pair_limit``, no two neighbours along the axis of the sum (the input channels) have
    magnitudes that add up to more: a finer rule than halving all weights.

    A channel of zeros takes the median scale of the others, so that its bias, an integer times
    (input scale * weight scale), is as fine as theirs.  A scale too small for the bias to fit
    int32 is raised.
    """
    rows = np.moveaxis(weight, axis, 0)
    scales, others = np.empty(len(rows)), tuple(range(1, rows.ndim))
    for part in row_blocks(rows):
        scales[part] = np.abs(rows[part]).max(axis=others)
    scales /= limit
    if pair_limit is not None:
        scales = np.maximum(scales, _largest_pairs(weight, axis) / (pair_limit - 1))
    alive = scales > 0
    scales = np.where(alive, scales, np.median(scales[alive]) if alive.any() else 1.0)
    rounded = np.maximum(scales, least_scales(bias, input_scale)).astype(np.float32)
    return WeightParams(tuple(float(s) for s in rounded), axis, limit)


def least_scales(
    bias: npt.NDArray[np.float32] | None, input_scale: float
) -> npt.NDArray[np.float64] | float:
    """The smallest scales of weights with which a bias fits int32, for each of its values."""
    if bias is None:
        return _SMALLEST
    needed = np.abs(bias.reshape(-1).astype(np.float64)) / (_BIAS_LIMIT * input_scale)
    return np.maximum(needed, _SMALLEST)


def _largest_pairs(weight: npt.NDArray[np.float32], axis: int) -> npt.NDArray[np.float64]:
    """float64 [channels]: the largest |w_k| + |w_k+1| along the input channels of each channel.

    Kernels with channels last multiply neighbouring input channels of one tap together.
    """
    rows = np.abs(np.moveaxis(weight, axis, 0).astype(np.float64))  # [out, in, ...]
    pairs = rows[:, :-1] + rows[:, 1:]
    return np.asarray(pairs.reshape(len(rows), -1).max(1, initial=0.0))


def quantized_weight(weight: npt.NDArray[np.float32], params: WeightParams) -> npt.NDArray[np.int8]:
    """int8 values of a weight, of the same shape."""
    integers = np.empty(weight.shape, np.int8)
    rows, stored = (np.moveaxis(array, params.axis, 0) for array in (weight, integers))
    scales = np.asarray(params.scales, np.float64).reshape(-1, *[1] * (weight.ndim - 1))
    for part in row_blocks(rows):
        values = np.rint(rows[part] / scales[part])
        stored[part] = np.clip(values, -params.limit, params.limit)
    return integers


def row_blocks(array: npt.NDArray[Any], most: int = 1 << 22) -> Iterator[slice]:
    """Slices along the first axis of at most ``most`` elements: what is computed of an array block
    by block takes no several times its memory; what is looked at in its file is let go after the
    last."""
    rows = max(1, most // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array), rows):
        yield slice(start, start + rows)
    if array.size > most:
        let_go()


def bias_scales(params: WeightParams, input_scale: float) -> npt.NDArray[np.float32]:
    """float32[channels]: the scale of the integer products, hence of an int32 bias."""
    return np.asarray(params.scales, np.float32) * np.float32(input_scale)


def quantized_bias(
    bias: npt.NDArray[np.float32], scales: npt.NDArray[np.float32]
) -> npt.NDArray[np.int32]:
    """int32[channels] of a bias."""
    return np.rint(bias.reshape(-1).astype(np.float64) / scales).astype(np.int32)
