"""A torch model that a function builds, with or without a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from deploypipe.compress.torch_model import Builder, TorchModel, load_weights
from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.errors import UserError
from deploypipe.core.files import sha256_file
from deploypipe.export.forward import forward
from deploypipe.runtime import Target
from deploypipe.stages import Desk
from deploypipe.stages._source import Source


@dataclass(frozen=True)
class TorchSource(Source):
    """Build the model and load its weights."""

    build: str
    args: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    seed: int = 0
    content: str = ""

    takes: ClassVar[Kind] = Kind.TORCH
    gives: ClassVar[Kind] = Kind.TORCH

    def __post_init__(self) -> None:
        """Note what the files hold, so that an edited file is another source."""
        weights = Path(self.weights) if self.weights else None
        digests = [Builder(self.build).code]
        digests += [sha256_file(weights)] if weights and weights.is_file() else []
        object.__setattr__(self, "content", " ".join(digests))

    def run(self, source: Artifact, desk: Desk) -> Artifact:
        self.model().save(desk.out)
        return Artifact.of(Kind.TORCH, desk.out, "source")

    def answer_shape(self, feeds: dict[str, np.ndarray], target: Target) -> tuple[int, ...]:
        then = "Set data.preprocess and data.input so that the samples fit forward()"
        module = self.model().module.eval()
        answer = forward(module, feeds, where="model.build", then=then)
        answer = answer[0] if isinstance(answer, tuple | list) else answer
        if not isinstance(answer, torch.Tensor):
            raise UserError(
                f"the model answers with {type(answer).__name__}, not with a tensor",
                where="model.build",
                then="Let forward() return its answer as a tensor, or as the first of several",
            )
        return tuple(answer.shape)

    def model(self) -> TorchModel:
        """The model in memory; random weights come from the seed."""
        torch.manual_seed(self.seed)
        builder = Builder(self.build, dict(self.args))
        module = builder.build()
        if self.weights:
            load_weights(module, Path(self.weights))
        return TorchModel(module, builder)
