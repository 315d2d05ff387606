"""Torch -> ONNX, with the proof that both answer alike on real samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from deploypipe.compress.torch_model import TorchModel
from deploypipe.core.artifact import Artifact, Kind
from deploypipe.data import Data, Split
from deploypipe.export.parity import check_parity
from deploypipe.export.to_onnx import expected_seconds, to_onnx
from deploypipe.graph.files import data_files, save
from deploypipe.stages import Desk, Stage, Work


@dataclass(frozen=True)
class Export(Stage):
    """Export by torch's dynamo exporter; dynamic batch; parity at several batch sizes."""

    outputs: list[str] = field(default_factory=list)
    dynamic: dict[str, list[int]] = field(default_factory=dict)
    batches: list[int] = field(default_factory=lambda: [1, 2, 7])
    tolerance: float = 1e-4

    takes: ClassVar[Kind] = Kind.TORCH
    gives: ClassVar[Kind] = Kind.ONNX
    needs: ClassVar[tuple[str, ...]] = ("torch",)
    packages: ClassVar[tuple[str, ...]] = ("torch", "onnxscript", "onnx-ir")

    def __post_init__(self) -> None:
        if not self.batches or min(self.batches) < 1:
            raise ValueError(f"batches must be positive sizes, got {self.batches}")

    def work(self, data: Data) -> Work:
        count = min(sum(self.batches), len(data.split("validation")))
        return Work({"validation": count}, seconds=6)

    def run(self, source: Artifact, desk: Desk) -> Artifact:
        model = TorchModel.load(source.path)
        split = desk.data.split("validation")
        path = desk.out / "model.onnx"
        with desk.progress.expecting("export", expected_seconds(model.module)):
            sample = split.batch([0, len(split) - 1]).inputs
            save(to_onnx(model.module, sample, outputs=self.outputs, dynamic=self.dynamic), path)
        feeds = [split.batch(part).inputs for part in _parts(split, self.batches)]
        with desk.target.open(path) as session:
            parity = check_parity(model.module, session, feeds, self.tolerance)
        notes = {
            "parity": {str(size): error for size, error in parity.errors.items()},
            "changes": [f"answers as torch does, largest relative error {parity.worst:.1e}"],
        }
        return Artifact.of(Kind.ONNX, path, "export", source, notes, data_files(path).values())


def _parts(split: Split, sizes: list[int]) -> Iterator[list[int]]:
    """Consecutive runs of samples; where the split ends, it begins again."""
    start = 0
    for size in sizes:
        yield [(start + i) % len(split) for i in range(size)]
        start += size
