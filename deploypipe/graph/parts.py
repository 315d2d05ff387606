"""A model for a runtime in the same process: the graph as bytes, its weights where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.core.model_parts import ModelParts, is_usable
from deploypipe.graph.files import HELD_ONCE, weight_bytes
from deploypipe.graph.mapped import MappedTensor

SMALL = 4096
"""Bytes up to which a weight stays in the graph: the runtime looks at shapes, axes and scales while
it loads."""

_PLAIN = frozenset(
    {
        ir.DataType.FLOAT,
        ir.DataType.DOUBLE,
        ir.DataType.FLOAT16,
        ir.DataType.INT8,
        ir.DataType.UINT8,
        ir.DataType.INT32,
        ir.DataType.INT64,
    }
)
"""Types that numpy has as well."""


def parts_of(model: ir.Model, lean: bool | None = None) -> ModelParts:
    """``model`` in parts; it stays as it is, and its weights are shared with the parts.

    ``lean`` keeps the runtime from packing them anew for its kernels, which takes as much memory
    again and makes it faster; by default, so is a model of more than `HELD_ONCE`.
    """
    lean = weight_bytes(model) > HELD_ONCE if lean is None else lean
    copy = model.clone()
    weights: dict[str, npt.NDArray[Any]] = {}
    folder: Path | None = None
    for name, value in copy.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.nbytes <= SMALL or tensor.dtype not in _PLAIN:
            continue
        if value.is_graph_input() or value.is_graph_output():
            continue
        if isinstance(tensor, MappedTensor) and folder in (None, tensor.folder):
            value.const_value, folder = tensor.reference(name), tensor.folder
            continue
        array = tensor.numpy()
        weights[name] = array if is_usable(array) else np.array(array, order="C")
        value.const_value = ir.ExternalTensor(
            "memory", 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(array.shape), name=name
        )
    proto = ir.serde.serialize_model(copy)
    graph = bytes(proto.SerializeToString(deterministic=True))
    return ModelParts(graph, weights, folder, lean)
