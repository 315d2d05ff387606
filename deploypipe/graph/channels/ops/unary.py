"""Elementwise functions of one tensor: y[i] = f(x[i]).

A constant goes through by running the op itself, in the tensor's own dtype: Sigmoid(0) is 0.5, so
a zero channel is a constant channel behind it, not a zero one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from deploypipe.graph.channels.cells import Tie, axis_size, rank
from deploypipe.graph.channels.rule import LIVE, Rule, Values, every_axis
from deploypipe.graph.constants import constant_of


class Unary(Rule):
    """Activations and other pointwise functions."""

    ops: ClassVar[frozenset[str]] = frozenset(
        {
            "Abs",
            "Cast",
            "Ceil",
            "Celu",
            "Clip",
            "Cos",
            "Dropout",
            "Elu",
            "Erf",
            "Exp",
            "Floor",
            "Gelu",
            "HardSigmoid",
            "HardSwish",
            "Identity",
            "LeakyRelu",
            "Mish",
            "Neg",
            "Relu",
            "Round",
            "Selu",
            "Sigmoid",
            "Sign",
            "Sin",
            "Softplus",
            "Softsign",
            "Sqrt",
            "Swish",
            "Tanh",
            "ThresholdedRelu",
        }
    )

    def ties(self, node: ir.Node) -> Iterable[Tie | None]:
        x = node.inputs[0]
        return () if x is None else every_axis(x, node.outputs[0])

    def values(self, node: ir.Node, known: Values) -> None:
        x, y = node.inputs[0], node.outputs[0]
        for axis in range(rank(y) or 0):
            vector = known.of(x, axis)
            if len(vector) != axis_size(y, axis):
                continue
            fixed = ~np.isnan(vector)
            result = np.full(vector.shape, LIVE)
            if fixed.any():
                result[fixed] = _run(node, vector[fixed])
            known[y, axis] = result


def _run(node: ir.Node, vector: np.ndarray) -> np.ndarray:
    """f(vector) in the dtype of the node's input; LIVE where the op cannot be run here."""
    x = node.inputs[0]
    others = [constant_of(value) for value in node.inputs[1:] if value is not None]
    if x is None or x.dtype is None or any(array is None for array in others):
        return np.full(vector.shape, LIVE)
    if node.op_type in ("Identity", "Dropout"):
        return vector
    names = [f"in{i}" if value is not None else "" for i, value in enumerate(node.inputs)]
    arrays = [vector.astype(x.dtype.numpy()), *others]
    feeds = dict(zip([name for name in names if name], arrays, strict=True))
    try:
        results = ReferenceEvaluator(_alone(node, names)).run(None, feeds)
        return np.asarray(results[0], np.float64)  # type: ignore[index]
    except (NotImplementedError, RuntimeError, TypeError):
        return np.full(vector.shape, LIVE)


def _alone(node: ir.Node, names: list[str]) -> onnx.ModelProto:
    """The node in a model of its own; typed, so that ops that are functions can be run."""
    copied = onnx.helper.make_node(node.op_type, names, ["out"])
    copied.attribute.extend(ir.to_proto(node).attribute)
    typed = [
        onnx.helper.make_tensor_value_info(name, int(value.dtype or ir.DataType.FLOAT), None)
        for name, value in zip(names, node.inputs, strict=True)
        if value is not None
    ]
    graph = onnx.helper.make_graph([copied], "alone", typed, [onnx.ValueInfoProto(name="out")])
    version = node.version or (node.graph.opset_imports.get("", 21) if node.graph else 21)
    opsets = [onnx.helper.make_opsetid("", version)]
    return onnx.helper.make_model(graph, opset_imports=opsets)
