"""The constant weights of a model, each with the axis of its output channels."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from deploypipe.graph.constants import constant_of, input_of, is_constant
from deploypipe.quantize.units import check_model, name_of

_AXES = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": -1}
WEIGHTED = frozenset(_AXES)
"""The operators that have weights."""


@dataclass(frozen=True)
class Weight:
    """``name`` and ``op`` are those of the first node that reads the constant ``value``."""

    name: str
    op: str
    value: str
    axis: int
    size: int


def weights_of(model: ir.Model) -> list[Weight]:
    """float32 weights of all Conv, ConvTranspose, Gemm and MatMul, in the graph's order, each once.

    Those in subgraphs are among them if the main graph holds them.

    Raises:
        UserError: the model is half precision or already quantized.
    """
    check_model(model)
    found: dict[str, Weight] = {}
    for node in model.graph.all_nodes():
        value = input_of(node, 1)
        if node.op_type not in _AXES or node.domain not in ("", "ai.onnx") or value is None:
            continue
        weight = _weight(node, value)
        if weight is not None and _is_ours(value, model.graph):
            found.setdefault(weight.value, weight)
    return list(found.values())


def _weight(node: ir.Node, value: ir.Value) -> Weight | None:
    array = constant_of(value) if is_constant(value) else None
    if array is None or array.dtype != "float32" or array.ndim < 2 or not array.size:
        return None
    axis = _AXES[node.op_type] % array.ndim
    if node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1:
        axis = 0
    return Weight(name_of(node), node.op_type, str(value.name), axis, int(array.size))


def _is_ours(value: ir.Value, graph: ir.Graph) -> bool:
    """Whether the main graph holds the constant and does not give it out."""
    producer = value.producer()
    held = graph.initializers.get(str(value.name)) is value
    return (held or (producer is not None and producer.graph is graph)) and (
        not value.is_graph_output()
    )
