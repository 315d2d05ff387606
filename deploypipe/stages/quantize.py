"""Static int8: observe the calibration split, plan, emit QDQ, and look at what really fused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.errors import UserError
from deploypipe.core.shelf import OneOf
from deploypipe.data import Data
from deploypipe.graph.files import data_files, load, save
from deploypipe.quantize import CALIBRATORS, PROFILES, Calibrator, Profile, quantize_model
from deploypipe.quantize.calibrators.percentile import Percentile
from deploypipe.quantize.profiles.cpu import Cpu
from deploypipe.stages import Desk, Stage, Work
from deploypipe.stages._batch import batch_of


@dataclass(frozen=True)
class Quantize(Stage):
    """Quantize weights and activations; ``samples`` limits the calibration split."""

    calibrator: Annotated[Calibrator, OneOf(CALIBRATORS)] = Percentile()
    profile: Annotated[Profile, OneOf(PROFILES)] = Cpu()
    samples: int | None = None
    batch: int = 16

    takes: ClassVar[Kind] = Kind.ONNX
    gives: ClassVar[Kind] = Kind.ONNX
    packages: ClassVar[tuple[str, ...]] = ("numpy", "onnx-ir")

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
        return Work({"calibration": count}, answered=2 * count, seconds=1)

    def run(self, source: Artifact, desk: Desk) -> Artifact:
        split = desk.data.split("calibration")
        fixed = batch_of(source.path, desk.target, split, self.samples)
        count = self.samples or len(split)
        count -= count % (fixed or 1)  # a part of a batch does not fit such a model
        feeds = (one.inputs for one in split.batches(fixed or self.batch, count))
        outcome = quantize_model(
            load(source.path),
            feeds,
            desk.target.open,
            calibrator=self.calibrator,
            profile=self.profile,
            progress=desk.progress,
            samples=count,
        )
        path = desk.out / "model.onnx"
        save(outcome.model, path)
        notes = {"changes": outcome.changes, "refusals": outcome.refusals, **outcome.notes}
        return Artifact.of(Kind.ONNX, path, "quantize", source, notes, data_files(path).values())
