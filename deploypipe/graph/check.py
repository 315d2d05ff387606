"""Do two graphs answer alike?  The caller brings what runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.core.errors import UserError

Array = npt.NDArray[Any]
Run = Callable[[ir.Model, Mapping[str, Array]], Mapping[str, Array]]
"""Runs a model on feeds and gives its outputs by name."""


def compare(before: ir.Model, after: ir.Model, feeds: Mapping[str, Array], run: Run) -> float:
    """Largest difference of any output, relative to that output's largest magnitude before.

    0 for equal answers, ``inf`` where an output is missing or has another shape, or where only
    one of the two is finite.
    """
    expected, given = run(before, feeds), run(after, feeds)
    if set(expected) != set(given):
        return float("inf")
    return max((relative_error(expected[name], given[name]) for name in expected), default=0.0)


def relative_error(expected: Array, given: Array) -> float:
    """``max |expected - given| / max |expected|``; two NaN or equal infinities are equal."""
    if expected.shape != given.shape:
        return float("inf")
    a, b = expected.astype(np.float64), given.astype(np.float64)
    differ = ~((a == b) | (np.isnan(a) & np.isnan(b)))
    if not differ.any():
        return 0.0
    if not (np.isfinite(a[differ]).all() and np.isfinite(b[differ]).all()):
        return float("inf")
    scale = np.abs(a[np.isfinite(a)]).max(initial=0.0)
    return float(np.abs(a[differ] - b[differ]).max() / max(scale, np.finfo(np.float32).tiny))


def random_feeds(
    model: ir.Model, seed: int = 0, batch: int = 1, sizes: Mapping[str, int] | None = None
) -> dict[str, Array]:
    """Random inputs: floats from N(0, 1), bytes from their whole range, other integers 0 or 1.

    ``sizes`` gives a symbolic dimension's size by its symbol; a dynamic first dimension is
    ``batch`` unless given there.

    Raises:
        UserError: a dynamic dimension without a size, or an input that is no tensor of numbers.
    """
    rng = np.random.default_rng(seed)
    initializers = model.graph.initializers
    inputs = [value for value in model.graph.inputs if value.name not in initializers]
    return {str(v.name): _draw(v, _shape(v, batch, sizes or {}), rng) for v in inputs}


def _shape(value: ir.Value, batch: int, sizes: Mapping[str, int]) -> tuple[int, ...]:
    if value.shape is None:
        raise UserError(f"the model's input '{value.name}' has no known rank")
    return tuple(_size(value, axis, batch, sizes) for axis in range(len(value.shape)))


def _size(value: ir.Value, axis: int, batch: int, sizes: Mapping[str, int]) -> int:
    assert value.shape is not None
    dim = value.shape[axis]
    if isinstance(dim, int):
        return dim
    if dim.value in sizes:
        return sizes[str(dim.value)]
    if axis == 0:
        return batch
    raise UserError(
        f"dimension {axis} ('{dim.value or '?'}') of the model's input '{value.name}' is dynamic",
        then="Give its size",
    )


def _draw(value: ir.Value, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if value.dtype is None or value.dtype == ir.DataType.STRING:
        raise UserError(f"the model's input '{value.name}' is no tensor of numbers")
    dtype = value.dtype.numpy()
    if value.dtype.is_floating_point():
        return rng.standard_normal(shape).astype(dtype)
    wide = value.dtype in (ir.DataType.UINT8, ir.DataType.INT8)
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if wide else (0, 1)
    return rng.integers(low, high, size=shape, endpoint=True).astype(dtype)
