"""Gemm, and MatMul with constant weights: y[n] = sum over k of x[k] * w[k, n] + b[n]."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Axis, Tie, axis_size, rank
from deploypipe.graph.channels.rule import LIVE, Needs, Rule, Values, integer
from deploypipe.graph.constants import constant_of


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
        columns = _bias_columns(linear)
        if columns is not None:
            yield Tie.same(columns, linear.y)

    def values(self, node: ir.Node, known: Values) -> None:
        linear = _parse(node)
        if linear is None:
            return
        meets = _nonzero(linear) & (known.of(*linear.x) != 0)[:, None]
        known[linear.y] = np.where(meets.any(0), LIVE, self._bias(linear))

    def demand(self, node: ir.Node, needs: Needs) -> None:
        linear = _parse(node)
        if linear is None:
            return
        wanted = needs.of(*linear.y)
        needs.add(*linear.x, (_nonzero(linear) & wanted).any(1))
        columns = _bias_columns(linear)
        if columns is not None:
            needs.add(*columns, wanted)

    @staticmethod
    def _bias(linear: _Linear) -> np.ndarray:
        size = axis_size(*linear.y) or 0
        if linear.bias is None:
            return np.zeros(size)
        array = constant_of(linear.bias)
        if array is None or (array.size != 1 and array.shape[-1] != array.size):
            return np.full(size, LIVE)  # it may differ between rows
        scaled = array.reshape(-1) * np.asarray(linear.beta, array.dtype)
        return np.broadcast_to(scaled.astype(np.float64), size)


def _bias_columns(linear: _Linear) -> Axis | None:
    """The bias' axis that runs along the outputs, None where it has none of that length."""
    bias = linear.bias
    if bias is None or not rank(bias):
        return None
    axis = (bias, (rank(bias) or 1) - 1)
    return axis if axis_size(*axis) == axis_size(*linear.y) else None


def _nonzero(linear: _Linear) -> np.ndarray:
    """bool [inputs, outputs]."""
    weights = constant_of(linear.rows[0])
    assert weights is not None  # _parse saw to it
    return np.asarray((weights if linear.rows[1] == 0 else weights.T) != 0)


def _parse(node: ir.Node) -> _Linear | None:
    x, w, y = node.inputs[0], node.inputs[1], node.outputs[0]
    if x is None or w is None or constant_of(w) is None or rank(w) != 2 or not rank(x):
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
