"""Random scores: the baseline that a criterion has to beat."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deploypipe.compress import Criterion
from deploypipe.graph.channels.groups import ChannelGroup


@dataclass(frozen=True)
class Random(Criterion):
    """Uniform scores from ``seed`` and the group's name."""

    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")

    def score(self, group: ChannelGroup, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        own = zlib.crc32(group.name.encode())
        return np.random.default_rng((self.seed, own)).uniform(0.5, 1.5, group.channels)
