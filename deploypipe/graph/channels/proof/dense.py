"""Gemm and MatMul in float64, widening large constant weights a block at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph.channels.proof.wide import is_narrow, widened

Array = npt.NDArray[Any]

BLOCK = 1 << 22
"""Weights widened at once: 32 MB.  VGG's first dense layer has 103 million."""


def matmul(_node: ir.Node, a: Array, b: Array) -> Array:
    """``a @ b`` with numpy's broadcasting."""
    if b.ndim == 2 and a.ndim > 1 and is_narrow(b):
        return _product(widened(a).reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[1])
    return np.asarray(np.matmul(widened(a), widened(b)))


def gemm(node: ir.Node, a: Array, b: Array, c: Array | None = None) -> Array:
    """``alpha * a' @ b' + beta * c``."""
    get = node.attributes.get_float
    a, b = (
        array.T if node.attributes.get_int(name, 0) else array
        for array, name in ((a, "transA"), (b, "transB"))
    )
    y = _product(widened(a), b) * get("alpha", 1.0)
    return y if c is None else y + get("beta", 1.0) * widened(c)


def _product(a: Array, b: Array) -> Array:
    """``a @ b`` [M, K] x [K, N], ``b`` widened in blocks along its slower axis."""
    rows = max(1, BLOCK // max(1, min(b.shape, default=1)))
    y = np.zeros((a.shape[0], b.shape[1]))
    if b.strides[0] < b.strides[1]:
        rows = max(1, BLOCK // max(1, b.shape[0]))
        for column in range(0, b.shape[1], rows):
            y[:, column : column + rows] = a @ widened(b[:, column : column + rows])
        return y
    rows = max(1, BLOCK // max(1, b.shape[1]))
    for row in range(0, b.shape[0], rows):
        y += a[:, row : row + rows] @ widened(b[row : row + rows])
    return y
