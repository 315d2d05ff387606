"""What a model takes, as its graph says."""

from __future__ import annotations

import onnx_ir as ir

from deploypipe.core.tensors import TensorSpec


def inputs_of(model: ir.Model) -> list[TensorSpec]:
    """Its inputs but for those that are initializers too; sizes that are open by their names."""
    graph = model.graph
    inputs = [value for value in graph.inputs if value.name not in graph.initializers]
    specs = []
    for value in inputs:
        dtype = value.dtype.numpy().name if value.dtype else "float32"
        dims = [d if isinstance(d, int) else str(d.value or "?") for d in value.shape or ()]
        specs.append(TensorSpec(str(value.name), dtype, tuple(dims)))
    return specs
