"""The error function in float64, for whole arrays.

W. J. Cody, "Rational Chebyshev approximations for the error function", Mathematics of Computation
23 (1969) 631-637.  onnx.reference rounds its own to float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph.channels.proof.wide import widened

Array = npt.NDArray[Any]

_A = (
    0.185777706184603153,
    3.16112374387056560,
    113.864154151050156,
    377.485237685302021,
    3209.37758913846947,
)
_B = (
    1.0,
    23.6012909523441209,
    244.024637934444173,
    1282.61652607737228,
    2844.23683343917062,
)
_C = (
    2.15311535474403846e-8,
    0.564188496988670089,
    8.88314979438837594,
    66.1191906371416295,
    298.635138197400131,
    881.952221241769090,
    1712.04761263407058,
    2051.07837782607147,
    1230.33935479799725,
)
_D = (
    1.0,
    15.7449261107098347,
    117.693950891312499,
    537.181101862009858,
    1621.38957456669019,
    3290.79923573345963,
    4362.61909014324716,
    3439.36767414372164,
    1230.33935480374942,
)
_BIG = 6.0
"""From here on erf is 1 in float64."""
_CHUNK = 1 << 14


def erf_of(_node: ir.Node, x: Array) -> Array:
    """erf(x), elementwise."""
    return erf(widened(x))


def gelu(node: ir.Node, x: Array) -> Array:
    """``x * (1 + erf(x / sqrt(2))) / 2``, or its approximation by tanh."""
    x = widened(x)
    if node.attributes.get_string("approximate", "none") == "tanh":
        return np.asarray(x * 0.5 * (1.0 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))
    return np.asarray(x * 0.5 * (1.0 + erf(x * np.sqrt(0.5))))


def erf(x: Array) -> Array:
    """float64 -> float64, to 4e-16; in chunks that stay in the cache."""
    flat = np.ascontiguousarray(x).reshape(-1)
    y = np.empty_like(flat)
    for start in range(0, flat.size, _CHUNK):
        y[start : start + _CHUNK] = _chunk(flat[start : start + _CHUNK])
    return y.reshape(x.shape)


def _chunk(x: Array) -> Array:
    size = np.minimum(np.abs(x), _BIG)
    square = size * size
    tail = 1.0 - np.exp(-square) * _polynomial(_C, size) / _polynomial(_D, size)
    near = size * _polynomial(_A, square) / _polynomial(_B, square)
    return np.copysign(np.where(size <= 0.46875, near, tail), x)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    y = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        y *= x
        y += coefficient
    return y
