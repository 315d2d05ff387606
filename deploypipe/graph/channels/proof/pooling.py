"""MaxPool and AveragePool in float64, one strided view per tap."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph.channels.proof.wide import widened
from deploypipe.graph.channels.proof.windows import Windows

Array = npt.NDArray[Any]


def max_pool(node: ir.Node, x: Array) -> Array:
    """The largest number in every window; pads hold none."""
    x, windows = widened(x), _windows(node, x)
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    taps = windows.taps(windows.padded(x, lowest))
    y = next(taps).copy()
    for tap in taps:
        np.maximum(y, tap, out=y)
    return y


def average_pool(node: ir.Node, x: Array) -> Array:
    """The mean of every window, of its places on the image or (count_include_pad) on the pads."""
    windows = _windows(node, x)
    taps = windows.taps(windows.padded(widened(x), 0.0))
    y = next(taps).copy()
    for tap in taps:
        y += tap
    y /= windows.counts(bool(node.attributes.get_int("count_include_pad", 0)))
    return y


def _windows(node: ir.Node, x: Array) -> Windows:
    return Windows.of(node, x.shape[2:], node.attributes["kernel_shape"].as_ints())
