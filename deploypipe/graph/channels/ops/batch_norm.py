"""BatchNormalization at inference: y = gamma * (x - mean) / sqrt(var + eps) + beta.

A channel with gamma = 0 is the constant beta whatever comes in, and needs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from deploypipe.graph.channels.cells import Tie, axis_size
from deploypipe.graph.channels.rule import Needs, Rule, Values, integer
from deploypipe.graph.constants import constant_of, is_constant


class BatchNorm(Rule):
    """Per-channel scale and shift with stored statistics."""

    ops: ClassVar[frozenset[str]] = frozenset({"BatchNormalization"})

    def refusal(self) -> str | None:
        if axis_size(self.x, 1) is None:
            return "has an unknown number of channels"
        if integer(self.node, "training_mode", 0):
            return "is in training mode"
        if any(not is_constant(value) for value in self.node.inputs[1:5]):
            return "has statistics that are computed"
        if not (self._stored(4) + self._epsilon > 0).all():
            return "has a variance that is not positive"
        return None

    def ties(self) -> Iterable[Tie | None]:
        yield Tie.same((self.x, 1), (self.y, 1))
        for value in self.node.inputs[1:5]:
            assert value is not None
            yield Tie.same((value, 0), (self.y, 1))

    def values(self, known: Values) -> None:
        gamma, beta, mean, variance = (self._stored(place) for place in range(1, 5))
        given = known.of(self.x, 1)
        moved = gamma * (given - mean) / np.sqrt(variance + self._epsilon) + beta
        rounded = moved.astype(self.x.dtype.numpy() if self.x.dtype else np.float32)
        known[self.y, 1] = np.where(gamma == 0, beta, rounded.astype(np.float64))

    def demand(self, needs: Needs, known: Values) -> None:
        needs.add(self.x, 1, needs.of(self.y, 1) & (self._stored(1) != 0))

    @property
    def _epsilon(self) -> float:
        return float(self.node.attributes.get_float("epsilon", 1e-5))

    def _stored(self, place: int) -> np.ndarray:
        array = constant_of(self.node.inputs[place])
        assert array is not None  # refusal() saw to it
        return array.astype(np.float64)
