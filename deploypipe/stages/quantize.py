"""Static int8: observe the calibration split, plan, emit QDQ, and look at what really fused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import onnx_ir as ir

from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.errors import UserError
from deploypipe.core.progress import Progress
from deploypipe.core.shelf import OneOf
from deploypipe.data import Data
from deploypipe.graph.files import data_files, load, save, to_bytes
from deploypipe.quantize import CALIBRATORS, PROFILES, Calibrator, Profile, Race, quantize_model
from deploypipe.quantize.calibrators.percentile import Percentile
from deploypipe.quantize.profiles.cpu import Cpu
from deploypipe.runtime import Feeds, Target
from deploypipe.stages import Desk, Stage, Work
from deploypipe.stages._batch import batch_of
from deploypipe.validate.files import opener
from deploypipe.validate.interleave import Pace
from deploypipe.validate.latency import time_many


@dataclass(frozen=True)
class Quantize(Stage):
    """Quantize weights and activations; ``samples`` limits the calibration split.

    With ``decide``, what is not faster in 8 bits on this machine stays float, up to the whole model.
    """

    calibrator: Annotated[Calibrator, OneOf(CALIBRATORS)] = Percentile()
    profile: Annotated[Profile, OneOf(PROFILES)] = Cpu()
    samples: int | None = None
    batch: int = 16
    decide: bool = True

    takes: ClassVar[Kind] = Kind.ONNX
    gives: ClassVar[Kind] = Kind.ONNX
    packages: ClassVar[tuple[str, ...]] = ("numpy", "onnx-ir")
    version: ClassVar[int] = 2
    measures: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.batch < 1 or (self.samples is not None and self.samples < 1):
            raise ValueError("samples and batch must be at least 1")

    def work(self, data: Data) -> Work:
        split = data.split("calibration")
        count = len(split) if self.samples is None else self.samples
        if count > len(split):
            raise UserError(
                f"{count} samples were asked for, the calibration split has {len(split)}",
                where="quantize.samples",
                then="Enlarge data.split.calibration, or ask for fewer",
            )
        return Work({"calibration": count}, answered=2 * count, seconds=10 if self.decide else 1)

    def run(self, source: Artifact, desk: Desk) -> Artifact:
        split = desk.data.split("calibration")
        fixed = batch_of(source.path, desk.target, split, self.samples)
        count = self.samples or len(split)
        count -= count % (fixed or 1)  # a part of a batch does not fit such a model
        feeds = (one.inputs for one in split.batches(fixed or self.batch, count))
        outcome = quantize_model(
            load(source.path),
            feeds,
            desk.target,
            calibrator=self.calibrator,
            profile=self.profile,
            progress=desk.progress,
            samples=count,
            race=race(desk.target, desk.progress) if self.decide else None,
        )
        path = desk.out / "model.onnx"
        save(outcome.model, path)
        notes = {"changes": outcome.changes, "refusals": outcome.refusals, **outcome.notes}
        return Artifact.of(Kind.ONNX, path, "quantize", source, notes, data_files(path).values())


_PACE = Pace(rounds=3, blocks=3, budget_seconds=8)


def race(target: Target, progress: Progress | None = None) -> Race:
    """Whole models in turns, as `validate` times them."""

    def run(models: Mapping[str, ir.Model], feeds: Sequence[Feeds]) -> dict[str, float]:
        openers = {name: opener(target, to_bytes(model)) for name, model in models.items()}
        timings = time_many(openers, feeds, _PACE, progress=progress)
        return {name: one.ratio.value if one.ratio else 1.0 for name, one in timings.items()}

    return run
