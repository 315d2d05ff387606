"""Group L2: the norm of all the weights that go with a channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deploypipe.compress import Criterion
from deploypipe.graph.channels.groups import ChannelGroup


@dataclass(frozen=True)
class L2(Criterion):
    """Root of the summed squares over every weight of the channel (Fang 2023, 2301.12900)."""

    def score(self, group: ChannelGroup, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        total = np.zeros(group.channels)
        for part in group.slices:
            weights = parameters.get(part.parameter)
            if weights is None or weights.ndim < 2:
                continue  # norms' scales and biases weigh little and are on another scale
            squares = np.moveaxis(np.asarray(weights, np.float64) ** 2, part.axis, 0)
            per_index = squares.reshape(squares.shape[0], -1).sum(1)
            total += per_index[part.index].sum(1)
        return np.sqrt(total)
