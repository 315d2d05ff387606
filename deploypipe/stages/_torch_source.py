"""A torch model that a function builds, with or without a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from deploypipe.compress.torch_model import Builder, TorchModel, load_weights
from deploypipe.compress.training import call
from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.errors import UserError
from deploypipe.core.files import sha256_file
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
        module = self.model().module.eval()
        tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
        try:
            with torch.no_grad():
                answer = call(module, tensors)
        except Exception as error:  # whatever the user's forward() raises
            shapes = ", ".join(f"{name} {a.dtype}{list(a.shape)}" for name, a in feeds.items())
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"the model cannot take the samples ({shapes}): {type(error).__name__}: {reason}",
                where="model.build",
                then="Set data.preprocess and data.input so that the samples fit forward()",
            ) from error
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
