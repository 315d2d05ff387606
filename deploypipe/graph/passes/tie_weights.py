"""Store equal weights once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import DeduplicateHashedInitializersPass

from deploypipe.graph import GraphPass, Outcome


@dataclass(frozen=True)
class TieWeights(GraphPass):
    """Let one initializer stand for all with the same type, shape and bytes.

    ::

        Gather(v, ids), MatMul(h, w), v equal to w     becomes     Gather(v, ids), MatMul(h, v)

    Exporters copy tied weights, such as an embedding that is also the last layer.
    """

    def call(self, model: ir.Model) -> Outcome:
        before = _count(model)
        _straighten(model)
        modified = DeduplicateHashedInitializersPass()(model).modified
        gone = before - _count(model)
        changes = [f"{gone} stored twice, now once"] if gone else []
        return Outcome(model, bool(modified), changes, [])


def _straighten(model: ir.Model) -> None:
    """Lay weights out row by row: the pass of onnx_ir 1.1 cannot take digests of others."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.Tensor) and not tensor.numpy().flags.c_contiguous:
                array = np.ascontiguousarray(tensor.numpy())
                value.const_value = ir.Tensor(array, dtype=tensor.dtype, name=tensor.name)


def _count(model: ir.Model) -> int:
    return sum(len(graph.initializers) for graph in model.graphs())
