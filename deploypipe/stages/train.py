"""Train the model on the train split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from deploypipe.compress import LOSSES, Loss
from deploypipe.compress.losses.cross_entropy import CrossEntropy
from deploypipe.core.artifact import Artifact
from deploypipe.core.shelf import OneOf
from deploypipe.stages import Desk
from deploypipe.stages._learning import Learning


@dataclass(frozen=True)
class Train(Learning):
    """Train from the weights that the model has; the result is the original of the comparison."""

    loss: Annotated[Loss, OneOf(LOSSES)] = CrossEntropy()

    def run(self, source: Artifact, desk: Desk) -> Artifact:
        return self.learn(source, desk, "train", self.loss, None)
