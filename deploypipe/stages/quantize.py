"""Fewer bits: static int8 from the calibration split, or a method that needs no samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

import onnx_ir as ir

from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.errors import UserError
from deploypipe.core.progress import Progress
from deploypipe.core.shelf import OneOf
from deploypipe.data import Data
from deploypipe.data.dataset import names_classes
from deploypipe.graph.files import data_files, load, save
from deploypipe.graph.parts import parts_of
from deploypipe.quantize import (
    CALIBRATORS,
    CORRECTIONS,
    METHODS,
    PROFILES,
    Calibrator,
    Correction,
    Job,
    Method,
    Profile,
    Race,
)
from deploypipe.quantize.calibrators.percentile import Percentile
from deploypipe.quantize.job import CHEAP
from deploypipe.quantize.memory import Memory
from deploypipe.quantize.methods.static import Static
from deploypipe.quantize.profiles.cpu import Cpu
from deploypipe.runtime import Feeds, Target
from deploypipe.stages import Desk, Stage, Work
from deploypipe.stages._batch import batch_of
from deploypipe.validate.files import opener
from deploypipe.validate.interleave import Pace
from deploypipe.validate.latency import time_many


@dataclass(frozen=True)
class Quantize(Stage):
    """Store and compute in fewer bits; ``samples`` limits the calibration split.

    ``method`` is static int8 unless told; only that one needs samples, a calibrator and a race, and
    only it is corrected, by each of ``corrections`` where that brings the outputs nearer.  With
    ``decide``, what is not faster in 8 bits on this machine stays float, up to the whole model; so do
    the nodes named in ``keep_float``, and those that cost the outputs so much that they would fall
    below ``least_sqnr`` dB, or fewer than ``least_agreement`` percent of a classifier's answers stay.
    """

    method: Annotated[Method, OneOf(METHODS)] = Static()
    calibrator: Annotated[Calibrator, OneOf(CALIBRATORS)] = Percentile()
    profile: Annotated[Profile, OneOf(PROFILES)] = Cpu()
    corrections: tuple[Annotated[Correction, OneOf(CORRECTIONS)], ...] = CHEAP
    samples: int | None = None
    batch: int = 16
    decide: bool = True
    keep_float: tuple[str, ...] = ()
    least_sqnr: float | None = None
    least_agreement: float | None = None
    diagnose: bool = True

    takes: ClassVar[Kind] = Kind.ONNX
    gives: ClassVar[Kind] = Kind.ONNX
    packages: ClassVar[tuple[str, ...]] = ("numpy", "onnx-ir")
    version: ClassVar[int] = 5
    measures: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.batch < 1 or (self.samples is not None and self.samples < 1):
            raise ValueError("samples and batch must be at least 1")
        if self.least_agreement is not None and not 1 < self.least_agreement < 100:
            raise ValueError("least_agreement is in percent, such as 99: above 1 and below 100")
        promised = {"least_sqnr": self.least_sqnr, "least_agreement": self.least_agreement}
        for name, value in promised.items():
            if value is not None and not self.method.needs_samples:
                raise ValueError(f"{name} is for static int8: no other method puts units back")

    def work(self, data: Data) -> Work:
        if not self.method.needs_samples:
            return Work(seconds=2)
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
        outcome = self.method.quantize(load(source.path), self._job(source.path, desk))
        path = desk.out / "model.onnx"
        save(outcome.model, path)
        told = {"changes": outcome.changes, "refusals": outcome.refusals}
        notes = {"method": METHODS.spec(self.method), **told, **outcome.notes}
        return Artifact.of(Kind.ONNX, path, "quantize", source, notes, data_files(path).values())

    def _job(self, model: Path, desk: Desk) -> Job:
        job = Job(
            desk.target,
            self.calibrator,
            self.profile,
            progress=desk.progress,
            corrections=self.corrections,
            keep_float=dict.fromkeys(self.keep_float, "the recipe says so"),
            least_sqnr=self.least_sqnr,
            least_agreement=self.least_agreement,
            diagnosis=self.diagnose,
        )
        if not self.method.needs_samples:
            return job
        split = desk.data.split("calibration")
        fixed = batch_of(model, split, self.samples)
        count = self.samples or len(split)
        count -= count % (fixed or 1)  # a part of a batch does not fit such a model
        feeds = (one.inputs for one in split.batches(fixed or self.batch, count))
        memory = None
        if desk.kept is not None:
            memory = Memory(desk.kept, f"{desk.data.digest} {count}")
        timed = race(desk.target, desk.progress) if self.decide else None
        classes = names_classes(split.labels)
        return replace(
            job, feeds=feeds, samples=count, race=timed, memory=memory, classifies=classes
        )


_PACE = Pace(rounds=3, blocks=16, budget_seconds=12, slot_seconds=0.002)


def race(target: Target, progress: Progress | None = None) -> Race:
    """Whole models in turns, as `validate` times them."""

    def run(models: Mapping[str, ir.Model], feeds: Sequence[Feeds]) -> dict[str, float]:
        openers = {
            name: opener(target, parts_of(model, lean=False)) for name, model in models.items()
        }
        timings = time_many(openers, feeds, _PACE, progress=progress)
        return {name: one.ratio.value if one.ratio else 1.0 for name, one in timings.items()}

    return run
