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

from deploypipe.graph.channels.cells import Tie, rank
from deploypipe.graph.channels.rule import LIVE, Rule, Values, constant, every_axis


class Unary(Rule):
    """Activations and other pointwise functions."""

    ops: ClassVar[frozenset[str]] = frozenset(
        "Abs Cast Ceil Celu Clip Cos Dropout Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity "
        "LeakyRelu Mish Neg Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Swish Tanh "
        "ThresholdedRelu".split()
    )

    def ties(self, node: ir.Node) -> Iterable[Tie | None]:
        x = node.inputs[0]
        return () if x is None else every_axis(x, node.outputs[0])

    def values(self, node: ir.Node, known: Values) -> None:
        x, y = node.inputs[0], node.outputs[0]
        for axis in range(rank(y) or 0):
            vector = known.of(x, axis)
            fixed = ~np.isnan(vector)
            result = np.full(vector.shape, LIVE)
            if fixed.any():
                result[fixed] = _run(node, vector[fixed])
            known[y, axis] = result


def _run(node: ir.Node, vector: np.ndarray) -> np.ndarray:
    """f(vector) in the dtype of the node's input; LIVE where the op cannot be run here."""
    x = node.inputs[0]
    others = [constant(value) for value in node.inputs[1:] if value is not None]
    if x is None or x.dtype is None or any(array is None for array in others):
        return np.full(vector.shape, LIVE)
    if node.op_type in ("Identity", "Dropout"):
        return vector
    names = [f"in{i}" if value is not None else "" for i, value in enumerate(node.inputs)]
    proto = ir.to_proto(node)
    copied = onnx.helper.make_node(node.op_type, names, ["out"])
    copied.attribute.extend(proto.attribute)
    version = node.version or (node.graph.opset_imports.get("", 21) if node.graph else 21)
    try:
        run = ReferenceEvaluator(copied, opsets={"": version})
        feeds = dict(zip([n for n in names if n], [vector.astype(x.dtype.numpy()), *others], strict=True))
        return np.asarray(run.run(None, feeds)[0], np.float64)
    except (NotImplementedError, RuntimeError, TypeError):
        return np.full(vector.shape, LIVE)
