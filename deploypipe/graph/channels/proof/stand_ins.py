"""Whole numbers out of every op: what is put behind those that give other ones.

    Relu(x)     becomes   Clip(Relu(x), -2, 2)
    Sigmoid(x)  becomes   Clip(Round(2 * Sigmoid(x)), -2, 2)
    Softmax(x)  becomes   Round(15.97 * Softmax(x))

Zero stays zero, and f(0) != 0 stays so.  Behind a function a constant is zero or a power of two, so
that one can be merged into another without rounding; and a deep model does not outgrow 2^53.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

from deploypipe.graph.constants import add_initializer

_Scalars = dict[tuple[float, ir.DataType], ir.Value]

_FUNCTIONS = frozenset(
    {
        "Acos",
        "Acosh",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "Celu",
        "Cos",
        "Cosh",
        "Elu",
        "Erf",
        "Exp",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Log",
        "Mish",
        "Pow",
        "Reciprocal",
        "Selu",
        "Shrink",
        "Sigmoid",
        "Sin",
        "Sinh",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Swish",
        "Tan",
        "Tanh",
    }
)
"""Functions of one number that do not give whole numbers."""
_STEPS = frozenset({"Abs", "Clip", "Max", "Min", "PRelu", "Relu", "ThresholdedRelu"})
"""Exact, but perhaps large."""
_MEANS = frozenset(
    {
        "Attention",
        "AveragePool",
        "GlobalAveragePool",
        "GlobalLpPool",
        "LpPool",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMean",
        "Resize",
        "Softmax",
        "Upsample",
    }
)
_RATIOS = frozenset(
    {
        "Div",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "LogSoftmax",
        "LpNormalization",
        "LRN",
        "MeanVarianceNormalization",
        "RMSNormalization",
    }
)


_MEAN = 15.97
"""Not 16: a mean of whole numbers would often lie halfway between two, and Round would then tell
``sum / 8`` from ``sum / 7 * (7 / 8)``.  A mean of 1, 2 or 4 is a power of two behind it all the same.
"""


def insert_stand_ins(graph: ir.Graph) -> None:
    """Put Mul, Round and Clip behind the ops that need them, graph outputs excepted.

    Values must have types.  The ops are those of opset 11 and later.
    """
    scalars: _Scalars = {}
    for node in list(graph):
        y = node.outputs[0]
        dtype = y.dtype
        if dtype is None or not dtype.is_floating_point() or y.is_graph_output():
            continue
        new = list(_stand_ins(node, y, scalars))
        if new:
            last = new[-1].outputs[0]
            ir.convenience.replace_all_uses_with(y, last)
            new[0].replace_input_with(0, y)
            graph.insert_after(node, new)


def _stand_ins(node: ir.Node, y: ir.Value, scalars: _Scalars) -> Iterator[ir.Node]:
    for op, *operands in _ops(node.op_type):
        constants = [_scalar(node, number, scalars) for number in operands]
        new = ir.node(op, [y, *constants])
        new.outputs[0].type, new.outputs[0].shape = y.type, y.shape
        y = new.outputs[0]
        yield new


def _ops(kind: str) -> Iterator[tuple[Any, ...]]:
    """(op, constants) in order."""
    if kind in _FUNCTIONS | _MEANS | _RATIOS:
        yield ("Mul", _MEAN if kind in _MEANS else 2)
        yield ("Round",)
    if kind in _FUNCTIONS | _STEPS:
        yield ("Clip", -2, 2)


def _scalar(node: ir.Node, number: float, scalars: _Scalars) -> ir.Value:
    """One constant for all nodes that need the number in that dtype."""
    dtype = node.outputs[0].dtype
    assert dtype is not None
    assert isinstance(node.graph, ir.Graph)
    if (number, dtype) not in scalars:
        array = np.array(number, dtype.numpy())
        value = add_initializer(node.graph, "whole", array)
        value.const_value = ir.tensor(array, name=value.name)  # a scalar, not [1]
        scalars[number, dtype] = value
    return scalars[number, dtype]
