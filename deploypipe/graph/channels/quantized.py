"""Weights behind DequantizeLinear: reading them as numbers, and adding to an int32 bias exactly."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.rule import integer
from deploypipe.graph.constants import constant_of, input_of, is_constant


def is_dequantized(value: ir.Value | None) -> bool:
    """Whether a value is the DequantizeLinear of constants."""
    node = value.producer() if value is not None else None
    return (
        node is not None
        and node.op_type == "DequantizeLinear"
        and all(is_constant(part) for part in node.inputs if part is not None)
    )


def is_known(value: ir.Value | None) -> bool:
    """Whether :func:`known_array` gives an array; this copies nothing."""
    if value is None or not is_dequantized(value):
        return is_constant(value)
    node = value.producer()
    assert node is not None
    return not integer(node, "block_size", 0)


def known_array(value: ir.Value | None) -> np.ndarray | None:
    """The array of a constant, looking through DequantizeLinear; None where it is computed."""
    if value is None or not is_dequantized(value):
        return constant_of(value)
    node = value.producer()
    assert node is not None
    if not is_known(value):
        return None
    codes, scale, zero = (constant_of(input_of(node, place)) for place in range(3))
    assert codes is not None
    assert scale is not None
    axis = node.attributes.get_int("axis", 1)
    zero = np.zeros_like(scale) if zero is None else zero
    shift = _along(zero.astype(np.float64), codes.ndim, axis)
    numbers = (codes - shift) * _along(scale, codes.ndim, axis)
    return np.asarray(numbers, scale.dtype)


def codes_exact(x: ir.Value, weights: ir.Value, bias: ir.Value | None) -> bool:
    """Whether the sum of a constant's products is a whole number of the bias' steps.

    So it is where the bias, which nobody else reads, has the scale of the products, as every
    runtime that adds in int32 wants it.
    """
    if not is_dequantized(bias) or not is_dequantized(weights):
        return False
    given = x.producer()
    if given is None or given.op_type != "DequantizeLinear":
        return False
    assert bias is not None
    if len(bias.uses()) > 1:
        return False
    step, product = _scale(bias), _scale(weights)
    outer = constant_of(input_of(given, 1))
    if step is None or product is None or outer is None or outer.size != 1:
        return False
    wanted = product.reshape(-1) * float(outer.reshape(-1)[0])
    return wanted.size in (1, step.size) and bool(np.allclose(step, wanted, rtol=1e-5))


def add_codes(bias: ir.Value | None, delta: np.ndarray) -> None:
    """Add float64 [outputs] to a dequantized bias, in its own steps."""
    assert bias is not None
    node = bias.producer()
    assert node is not None
    codes, scale = node.inputs[0], _scale(bias)
    assert codes is not None
    assert scale is not None
    old = constant_of(codes)
    assert old is not None
    total = old.astype(np.int64) + np.round(delta / scale.reshape(-1)).astype(np.int64)
    limits = np.iinfo(old.dtype)
    new = np.clip(total, limits.min, limits.max).astype(old.dtype)
    codes.const_value = ir.tensor(new, name=codes.name)


def _scale(value: ir.Value) -> np.ndarray | None:
    node = value.producer()
    return None if node is None else constant_of(input_of(node, 1))


def _along(array: np.ndarray, ndim: int, axis: int) -> np.ndarray:
    if array.size == 1:
        return array.reshape(())
    shape = [1] * ndim
    shape[axis % ndim] = array.size
    return array.reshape(shape)
