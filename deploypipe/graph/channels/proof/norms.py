"""Normalizations in float64 that onnx.reference lacks, rounds or gets wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph.channels.proof.wide import widened

Array = npt.NDArray[Any]


def batch_normalization(
    node: ir.Node, x: Array, scale: Array, bias: Array, mean: Array, var: Array
) -> Array:
    """``scale * (x - mean) / sqrt(var + epsilon) + bias``, the statistics given."""
    ones = [1] * (x.ndim - 2)
    scale, bias, mean, var = (widened(v).reshape(-1, *ones) for v in (scale, bias, mean, var))
    y = widened(x) - mean
    y *= scale / np.sqrt(var + node.attributes.get_float("epsilon", 1e-5))
    y += bias
    return np.asarray(y)


def group_normalization(node: ir.Node, x: Array, scale: Array, bias: Array) -> Array:
    """``scale * (x - mean) / sqrt(var + epsilon) + bias``, the statistics per group of channels.

    Scale and bias are per group before opset 21, per channel from then on.
    """
    groups, channels = node.attributes["num_groups"].as_int(), x.shape[1]
    rows = widened(x).reshape(x.shape[0], groups, -1)
    rows = rows - rows.mean(-1, keepdims=True)
    var = (rows * rows).mean(-1, keepdims=True)
    rows /= np.sqrt(var + node.attributes.get_float("epsilon", 1e-5))
    ones = [1] * (x.ndim - 2)
    scale, bias = (
        np.repeat(widened(v), channels // len(v)).reshape(-1, *ones) for v in (scale, bias)
    )
    return np.asarray(rows.reshape(x.shape) * scale + bias)


def lrn(node: ir.Node, x: Array) -> Array:
    """``x / (bias + alpha / size * sum of squares of the size nearest channels) ** beta``."""
    get, size, x = node.attributes.get_float, node.attributes["size"].as_int(), widened(x)
    low, high, channels = (size - 1) // 2, size - 1 - (size - 1) // 2, x.shape[1]
    sums = np.empty_like(x)
    for channel in range(channels):
        near = x[:, max(0, channel - low) : min(channels, channel + high + 1)]
        sums[:, channel] = (near * near).sum(1)
    sums = get("bias", 1.0) + get("alpha", 1e-4) / size * sums
    return np.asarray(x / sums ** get("beta", 0.75))
