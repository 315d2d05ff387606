"""Resize in float64, one axis after the other: a weighted sum of a few gathered slices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph.channels.proof.wide import widened

Array = npt.NDArray[Any]
_Taps = list[tuple[Array, Array]]
"""Pairs (index, weight) for every place of the output, int64 [m] and float64 [m]."""


def can_resize(node: ir.Node) -> bool:
    """Whether the node is a plain one: no antialiasing, no cropping, no kept aspect ratio."""
    get = node.attributes.get_string
    return (
        get("mode", "nearest") in ("nearest", "linear", "cubic")
        and get("coordinate_transformation_mode", "half_pixel") in _COORDINATES
        and get("keep_aspect_ratio_policy", "stretch") == "stretch"
        and not node.attributes.get_int("antialias", 0)
        and not node.attributes.get_int("exclude_outside", 0)
    )


def resize(
    node: ir.Node, x: Array, _roi: Any = None, scales: Any = None, sizes: Any = None
) -> Array:
    """Nearest, linear or cubic interpolation; from opset 11 on."""
    x = widened(x)
    axes = list(node.attributes.get_ints("axes", []) or []) or list(range(x.ndim))
    for place, axis in enumerate(axes):
        size = x.shape[axis]
        if sizes is not None and np.size(sizes):
            count = int(sizes[place])
            scale = count / size
        else:
            scale = float(scales[place])
            count = int(np.floor(size * scale))
        if count != size or scale != 1.0:
            x = _interpolated(x, axis, _taps(node, size, count, scale))
    return x


def _interpolated(x: Array, axis: int, taps: _Taps) -> Array:
    shape = [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]
    parts = (np.take(x, index, axis) * weight.reshape(shape) for index, weight in taps)
    y = next(parts)
    for part in parts:
        y += part
    return np.asarray(y)


def _taps(node: ir.Node, size: int, count: int, scale: float) -> _Taps:
    get = node.attributes.get_string
    places = np.arange(count, dtype=np.float64)
    kind = get("coordinate_transformation_mode", "half_pixel") or "half_pixel"
    at = _COORDINATES[kind](places, size, count, scale)
    mode = get("mode", "nearest")
    if mode == "nearest":
        nearest = _NEAREST[get("nearest_mode", "round_prefer_floor") or ""](at)
        return [(_inside(nearest, size), np.ones(count))]
    if mode == "linear":
        at = np.clip(at, 0, size - 1)
        first = np.floor(at)
        part = at - first
        return [(_inside(first, size), 1 - part), (_inside(first + 1, size), part)]
    return _cubic(at, size, node.attributes.get_float("cubic_coeff_a", -0.75))


def _cubic(at: Array, size: int, a: float) -> _Taps:
    """R. Keys, "Cubic convolution interpolation for digital image processing", IEEE 1981."""
    first = np.floor(at)
    t = at - first
    near: Callable[[Array], Array] = lambda d: ((a + 2) * d - (a + 3)) * d * d + 1  # noqa: E731
    far: Callable[[Array], Array] = lambda d: ((a * d - 5 * a) * d + 8 * a) * d - 4 * a  # noqa: E731
    weights = [far(1 + t), near(t), near(1 - t), far(2 - t)]
    return [(_inside(first + k - 1, size), weight) for k, weight in enumerate(weights)]


def _inside(index: Array, size: int) -> Array:
    return np.clip(index, 0, size - 1).astype(np.int64)


def _half_pixel(i: Array, _size: int, _count: int, scale: float) -> Array:
    return (i + 0.5) / scale - 0.5


def _half_pixel_symmetric(i: Array, size: int, count: int, scale: float) -> Array:
    return size / 2 * (1 - count / (scale * size)) + (i + 0.5) / scale - 0.5


def _pytorch_half_pixel(i: Array, _size: int, count: int, scale: float) -> Array:
    return (i + 0.5) / scale - 0.5 if count > 1 else np.zeros_like(i)


def _align_corners(i: Array, size: int, count: int, _scale: float) -> Array:
    return i * ((size - 1) / (count - 1)) if count > 1 else np.zeros_like(i)


def _asymmetric(i: Array, _size: int, _count: int, scale: float) -> Array:
    return i / scale


_COORDINATES: dict[str, Callable[[Array, int, int, float], Array]] = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "align_corners": _align_corners,
    "asymmetric": _asymmetric,
}

_NEAREST: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}
