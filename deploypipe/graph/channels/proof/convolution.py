"""Conv and ConvTranspose in float64: tiles of unfolded windows, and one matrix product for each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph.channels.proof.wide import widened
from deploypipe.graph.channels.proof.windows import Windows, last_axes

Array = npt.NDArray[Any]

TILE = 1 << 20
"""Numbers in one tile of unfolded windows: 8 MB, whatever the image's size."""


def conv(node: ir.Node, x: Array, w: Array, b: Array | None = None) -> Array:
    """``y[n, o] = sum over i, taps of w[o, i, tap] * x[n, i, at tap] + b[o]``, per group."""
    windows = Windows.of(node, x.shape[2:], w.shape[2:])
    groups = node.attributes.get_int("group", 1)
    view = windows.view(windows.padded(widened(x), 0.0))
    matrix = widened(w.reshape(groups, w.shape[0] // groups, -1))
    y = np.empty((x.shape[0], w.shape[0], *windows.outputs))
    rows = max(1, TILE // (prod(view.shape[1:]) // windows.outputs[0]))
    others = [slice(None)] * (len(windows.outputs) - 1)
    for sample in range(x.shape[0]):
        for row in range(0, windows.outputs[0], rows):
            tile = view[sample][last_axes([slice(row, row + rows), *others])]
            unfolded = tile.reshape(groups, matrix.shape[2], -1)
            place = y[sample, :, row : row + rows]
            place[...] = (matrix @ unfolded).reshape(place.shape)
    return y if b is None else _biased(y, b)


def _biased(y: Array, b: Array) -> Array:
    y += widened(b).reshape(-1, *[1] * (y.ndim - 2))
    return y


def conv_transpose(node: ir.Node, x: Array, w: Array, b: Array | None = None) -> Array:
    """Every input place adds ``x[n, i] * w[i, o, tap]`` at its taps; then the pads are cut off."""
    kernel, sizes, groups = w.shape[2:], x.shape[2:], node.attributes.get_int("group", 1)
    ones = [1] * len(kernel)
    strides = node.attributes.get_ints("strides", ones) or ones
    dilations = node.attributes.get_ints("dilations", ones) or ones
    before, outputs = _crop(node, sizes, kernel, strides, dilations)
    reach = [
        max((n - 1) * s + (k - 1) * d + 1, low + out)
        for n, s, k, d, low, out in zip(
            sizes, strides, kernel, dilations, before, outputs, strict=True
        )
    ]
    each = w.shape[1]
    y = np.zeros((x.shape[0], groups * each, *reach))
    weights = w.reshape(groups, w.shape[0] // groups, each, *kernel).swapaxes(1, 2)
    columns = widened(x).reshape(x.shape[0], groups, w.shape[0] // groups, -1)
    for tap in product(*map(range, kernel)):
        steps = zip(tap, dilations, strides, sizes, strict=True)
        place = y[last_axes(slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, s, n in steps)]
        place += (widened(weights[last_axes(tap)]) @ columns).reshape(place.shape)
    kept = zip(before, outputs, strict=True)
    y = y[last_axes(slice(low, low + out) for low, out in kept)]
    return y if b is None else _biased(y, b)


def _crop(
    node: ir.Node,
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> tuple[list[int], list[int]]:
    """What is cut off before, and the output's sizes."""
    get, rank = node.attributes.get_ints, len(sizes)
    auto = node.attributes.get_string("auto_pad", "NOTSET")
    extra = get("output_padding", [0] * rank) or [0] * rank
    axes = zip(sizes, strides, kernel, dilations, extra, strict=True)
    full = [(n - 1) * s + (k - 1) * d + 1 + e for n, s, k, d, e in axes]
    wanted = list(get("output_shape", []) or [])
    if not wanted and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * s for n, s in zip(sizes, strides, strict=True)]
    if wanted:
        total = [max(f - out, 0) for f, out in zip(full, wanted[-rank:], strict=True)]
        return [t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total], wanted[-rank:]
    pads = list(get("pads", []) or []) if auto == "NOTSET" else []
    pads = pads or [0] * (2 * rank)
    return pads[:rank], [f - pads[i] - pads[rank + i] for i, f in enumerate(full)]
