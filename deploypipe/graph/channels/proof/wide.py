"""float64 for every float dtype; everything else as it is."""

from __future__ import annotations

from typing import Any, TypeVar

import ml_dtypes
import numpy as np
import onnx_ir as ir

T = TypeVar("T")

_NARROW = frozenset({np.dtype(np.float16), np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)})


def is_narrow(array: object) -> bool:
    """Whether it is an array of float16, bfloat16 or float32."""
    return isinstance(array, np.ndarray) and array.dtype in _NARROW


def widened(array: Any) -> Any:
    """A narrow float array as float64; anything else, None and sequences too, untouched."""
    return array.astype(np.float64) if is_narrow(array) else array


def wide_model(model: ir.Model) -> ir.Model:
    """A copy in float64: weights, inputs, and what a Cast casts to."""
    wide = model.clone()
    for graph in wide.graphs():
        for value in (*graph.inputs, *graph.initializers.values()):
            _widen(value)
        for node in graph:
            for value in node.outputs:
                _widen(value)
            to = node.attributes.get("to")
            if to is not None and ir.DataType(to.as_int()).is_floating_point():
                node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.DOUBLE))
    return wide


def _widen(value: ir.Value) -> None:
    if value.dtype is None or not value.dtype.is_floating_point():
        return
    value.type = ir.TensorType(ir.DataType.DOUBLE)  # not its dtype: copies share the type
    if value.const_value is not None:
        value.const_value = ir.tensor(widened(value.const_value.numpy()), name=value.name)
