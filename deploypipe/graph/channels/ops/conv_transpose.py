"""ConvTranspose: weights are [inputs, outputs of a group, kernel].

A constant input gives a pattern wherever kernels overlap or the border cuts them, so it is one
constant only where every output pixel has exactly one tap.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from deploypipe.graph.channels.cells import Tie
from deploypipe.graph.channels.linear import Linear
from deploypipe.graph.channels.rule import integer


class ConvTranspose(Linear):
    """Transposed convolution of any rank with constant weights, in one group."""

    ops: ClassVar[frozenset[str]] = frozenset({"ConvTranspose"})

    def refusal(self) -> str | None:
        if integer(self.node, "group", 1) != 1:
            return "has groups"
        return super().refusal()

    @property
    def borderless(self) -> bool:
        """Never: a fold would have to know every output pixel's taps."""
        return False

    def as_matrix(self, array: np.ndarray) -> np.ndarray:
        inputs, outputs = array.shape[:2]
        return array.reshape(1, inputs, outputs, -1).transpose(0, 2, 1, 3)

    def ties(self) -> Iterable[Tie | None]:
        yield Tie.same((self.x, 1), (self.weights, 0))
        yield Tie.same((self.weights, 1), (self.y, 1))
        if self.bias is not None:
            yield Tie.same((self.bias, 0), (self.y, 1))
