"""Gemm, and MatMul with constant weights: y[n] = sum over k of x[k] * w[k, n] + b[n]."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Axis, Tie, axis_size, rank
from deploypipe.graph.channels.rule import LIVE, Needs, Rule, Values, constant, integer


@dataclass(frozen=True)
class _Linear:
    """Where the input, the two axes of the weights, the bias and the output lie."""

    x: Axis
    rows: Axis
    columns: Axis
    bias: ir.Value | None
    y: Axis
    alpha: float
    beta: float


class Gemm(Rule):
    """A linear layer."""

    ops: ClassVar[frozenset[str]] = frozenset({"Gemm", "MatMul"})

    def ties(self, node: ir.Node) -> Iterable[Tie | None]:
        linear = _parse(node)
        if linear is None:
            return
        yield Tie.same(linear.x, linear.rows)
        yield Tie.same(linear.columns, linear.y)
        bias = linear.bias
        if bias is not None and axis_size(bias, (rank(bias) or 1) - 1) == axis_size(*linear.y):
            yield Tie.same((bias, (rank(bias) or 1) - 1), linear.y)

    def values(self, node: ir.Node, known: Values) -> None:
        linear = _parse(node)
        if linear is None:
            return
        meets = _nonzero(linear) & (known.of(*linear.x) != 0)[:, None]
        known[linear.y] = np.where(meets.any(0), LIVE, self._bias(linear))

    def demand(self, node: ir.Node, needs: Needs, known: Values) -> None:
        linear = _parse(node)
        if linear is not None:
            needs.add(*linear.x, (_nonzero(linear) & needs.of(*linear.y)).any(1))

    @staticmethod
    def _bias(linear: _Linear) -> np.ndarray:
        size = axis_size(*linear.y) or 0
        if linear.bias is None:
            return np.zeros(size)
        array = constant(linear.bias)
        if array is None or array.size not in (1, size):
            return np.full(size, LIVE)
        return np.broadcast_to(array.astype(np.float64).reshape(-1) * linear.beta, size)


def _nonzero(linear: _Linear) -> np.ndarray:
    """bool [inputs, outputs]."""
    weights = constant(linear.rows[0])
    assert weights is not None  # _parse saw to it
    return (weights if linear.rows[1] == 0 else weights.T) != 0


def _parse(node: ir.Node) -> _Linear | None:
    x, w, y = node.inputs[0], node.inputs[1], node.outputs[0]
    if x is None or w is None or constant(w) is None or rank(w) != 2 or not rank(x):
        return None
    last = rank(x) - 1  # type: ignore[operator]
    if node.op_type == "MatMul":
        return _Linear((x, last), (w, 0), (w, 1), None, (y, last), 1.0, 1.0)
    if integer(node, "transA", 0):
        return None
    rows = integer(node, "transB", 0)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    alpha, beta = (node.attributes.get_float(name, 1.0) for name in ("alpha", "beta"))
    return _Linear((x, 1), (w, rows), (w, 1 - rows), bias, (y, 1), alpha, beta)
