"""An ONNX file that the user brings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.files import sha256_file
from deploypipe.data import Split
from deploypipe.graph.files import data_files, load, save
from deploypipe.runtime import Target
from deploypipe.stages import Desk
from deploypipe.stages._batch import batch_of
from deploypipe.stages._source import Source


@dataclass(frozen=True)
class OnnxSource(Source):
    """Take a file in, external data and all."""

    file: str
    content: str = ""

    takes: ClassVar[Kind] = Kind.ONNX
    gives: ClassVar[Kind] = Kind.ONNX

    def __post_init__(self) -> None:
        """Note what the files hold, so that an edited file is another source."""
        file = Path(self.file)
        digests = map(sha256_file, [file, *data_files(file).values()])
        object.__setattr__(self, "content", " ".join(digests))

    def run(self, source: Artifact, desk: Desk) -> Artifact:
        path = desk.out / "model.onnx"
        save(load(Path(self.file)), path)
        return Artifact.of(Kind.ONNX, path, "source", data=data_files(path).values())

    def batch(self, split: Split, target: Target) -> int:
        load(Path(self.file))  # refuses what is damaged or points outside its folder
        return batch_of(Path(self.file), split) or super().batch(split, target)

    def answer_shape(self, feeds: dict[str, np.ndarray], target: Target) -> tuple[int, ...]:
        with target.open(Path(self.file)) as session:
            return tuple(next(iter(session(feeds).values())).shape)
