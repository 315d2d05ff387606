"""Torch in memory -> smaller torch: masks from ranked channel groups, training, distillation.

Nothing is traced here: the graph room says which channels belong together, and the parameters'
names lead back.  A new criterion or loss is one new file on its shelf.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from deploypipe.core.shelf import Shelf

if TYPE_CHECKING:
    import torch

    from deploypipe.graph.channels.groups import ChannelGroup


class Criterion(ABC):
    """Says how much each channel of a group matters."""

    @abstractmethod
    def score(self, group: ChannelGroup, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        """float64 [channels], larger is more important; comparable within the group."""


class Loss(ABC):
    """What training minimises."""

    @abstractmethod
    def __call__(
        self, outputs: torch.Tensor, labels: torch.Tensor, teacher: torch.Tensor | None
    ) -> torch.Tensor:
        """A scalar from logits [batch, classes], labels int64 [batch] and the teacher's logits."""


CRITERIA: Shelf[Criterion] = Shelf("criterion", "deploypipe.compress.criteria", Criterion)
LOSSES: Shelf[Loss] = Shelf("loss", "deploypipe.compress.losses", Loss)
