"""Train the pruned model to answer as the original does; what is masked stays zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from deploypipe.compress import LOSSES, Loss
from deploypipe.compress.losses.knowledge import Knowledge
from deploypipe.compress.torch_model import TorchModel
from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.errors import UserError
from deploypipe.core.shelf import OneOf
from deploypipe.data import Data
from deploypipe.stages import Desk, Work
from deploypipe.stages._learning import Learning


@dataclass(frozen=True)
class Distill(Learning):
    """Learn from the original's logits and from the labels, under the masks."""

    loss: Annotated[Loss, OneOf(LOSSES)] = Knowledge()

    def work(self, data: Data) -> Work:
        own = super().work(data)
        return Work(own.samples, own.trained, own.forwarded + own.trained)

    def run(self, source: Artifact, desk: Desk) -> Artifact:
        original = desk.reference.ancestor(Kind.TORCH) if desk.reference else None
        if original is None:
            raise UserError("there is no torch original to learn from", where="distill")
        return self.learn(source, desk, "distill", self.loss, TorchModel.load(original.path))
