"""Elementwise functions of one tensor: y[i] = f(x[i]).

A constant goes through by running the op itself, in the tensor's own dtype: Sigmoid(0) is 0.5, so
a zero channel is a constant channel behind it, not a zero one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from deploypipe.graph.channels.cells import Tie, axis_size, rank
from deploypipe.graph.channels.rule import LIVE, Rule, Values, every_axis
from deploypipe.graph.channels.running import run_on
from deploypipe.graph.constants import constant_of, input_of

_NAMES = """
    Abs Acos Asin Asinh Atan Atanh Cast Ceil Celu Clip Cos Cosh Dropout Elu Erf Exp Floor Gelu
    HardSigmoid HardSwish Identity LeakyRelu Log Mish Neg Reciprocal Relu Round Selu Shrink Sigmoid
    Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu
    com.microsoft.Gelu com.microsoft.QuickGelu
"""


class Unary(Rule):
    """Activations and other pointwise functions; further inputs are scalars."""

    ops: ClassVar[frozenset[str]] = frozenset(_NAMES.split())

    def refusal(self) -> str | None:
        if self.node.op_type == "Dropout":
            return "may be in training mode" if self._may_drop() else None
        scalars = [constant_of(value) for value in self.node.inputs[1:] if value is not None]
        plain = all(array is not None and array.size == 1 for array in scalars)
        return None if plain else "has computed bounds"

    def ties(self) -> Iterable[Tie | None]:
        return every_axis(self.x, self.y)

    def values(self, known: Values) -> None:
        for axis in range(rank(self.y) or 0):
            vector = known.of(self.x, axis)
            if len(vector) != axis_size(self.y, axis):
                continue
            fixed = ~np.isnan(vector)
            result = np.full(vector.shape, LIVE)
            if fixed.any():
                result[fixed] = self._run(vector[fixed])
            known[self.y, axis] = result

    def _may_drop(self) -> bool:
        train = input_of(self.node, 2)
        return train is not None and (constant_of(train) is None or bool(constant_of(train)))

    def _run(self, vector: np.ndarray) -> np.ndarray:
        if self.node.op_type in ("Identity", "Dropout", "Relu"):  # as most nodes are
            return np.maximum(vector, 0) if self.node.op_type == "Relu" else vector
        numbers, places = np.unique(vector, return_inverse=True)
        return run_on(self.node, numbers)[places]
