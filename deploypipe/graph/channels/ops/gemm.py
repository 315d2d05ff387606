"""Gemm: y[n] = alpha * sum over k of x[k] * w[k, n] + beta * c[n], either side transposed or not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from deploypipe.graph.channels.cells import Axis, Tie, axis_size, rank
from deploypipe.graph.channels.linear import Linear
from deploypipe.graph.channels.rule import integer


class Gemm(Linear):
    """A linear layer on rows."""

    ops: ClassVar[frozenset[str]] = frozenset({"Gemm"})

    @property
    def in_axis(self) -> Axis:
        return self.x, 0 if integer(self.node, "transA", 0) else 1

    @property
    def _turned(self) -> bool:
        return bool(integer(self.node, "transB", 0))

    @property
    def scales(self) -> tuple[float, float]:
        alpha = self.node.attributes.get_float("alpha", 1.0)
        beta = self.node.attributes.get_float("beta", 1.0)
        return alpha, beta

    @property
    def borderless(self) -> bool:
        return True

    def as_matrix(self, array: np.ndarray) -> np.ndarray:
        return (array if self._turned else array.T)[None, :, :, None]

    def ties(self) -> Iterable[Tie | None]:
        yield Tie.same(self.in_axis, (self.weights, 1 if self._turned else 0))
        yield Tie.same((self.weights, 0 if self._turned else 1), self.out_axis)
        columns = self.bias_axis()
        if columns is not None:
            yield Tie.same(columns, self.out_axis)

    def bias_axis(self) -> Axis | None:
        if self.bias is None or not rank(self.bias):
            return None
        axis = (self.bias, (rank(self.bias) or 1) - 1)
        return axis if axis_size(*axis) == axis_size(*self.out_axis) else None
