"""What ships: the model, its manifest, golden answers and a runner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from deploypipe.bundle.golden import answer, step_of
from deploypipe.bundle.pack import Content, pack
from deploypipe.core.artifact import Artifact, Kind
from deploypipe.data import Data
from deploypipe.runtime import TARGETS, Target, host
from deploypipe.runtime.onnx_runtime import OnnxRuntimeTarget
from deploypipe.stages import Desk, Stage, Work
from deploypipe.stages._batch import batch_of


@dataclass(frozen=True)
class Bundle(Stage):
    """Pack a directory, or with ``form: tar`` one deterministic file."""

    form: Literal["directory", "tar"] = "directory"
    goldens: int = 4

    takes: ClassVar[Kind] = Kind.ONNX
    gives: ClassVar[Kind] = Kind.BUNDLE

    def __post_init__(self) -> None:
        if self.goldens < 1:
            raise ValueError(f"goldens must be at least 1, got {self.goldens}")

    def work(self, data: Data) -> Work:
        return Work({"validation": min(self.goldens, len(data.split("validation")))}, seconds=0.5)

    def run(self, source: Artifact, desk: Desk) -> Artifact:
        out = desk.out / ("bundle.tar" if self.form == "tar" else "bundle")
        content = self.content(source, desk)
        path = pack(source.path, out, content)
        count = len(next(iter(content.golden_inputs.values())))
        notes = {"changes": [f"packed with {count} golden samples"]}
        return Artifact.of(Kind.BUNDLE, path, "bundle", source, notes)

    def content(self, source: Artifact, desk: Desk) -> Content:
        """What the bundle tells of the model, golden answers included."""
        split = desk.data.split("validation")
        whole = batch_of(source.path, split) or 1  # a fixed batch is filled
        count = -(-self.goldens // whole) * whole
        batch = split.batch(range(min(count, len(split) // whole * whole)))
        with desk.target.open(source.path) as session:
            step = step_of(session.inputs, len(batch))
            outputs = answer(session, batch.inputs, step)
        return Content(
            name=desk.name,
            preprocess=desk.data.preprocess.model_dump(mode="json") if split.gives_images else None,
            classes=desk.data.classes,
            target=TARGETS.spec(desk.target),
            providers=_providers(desk.target),
            golden_inputs=batch.inputs,
            golden_outputs=outputs,
            verdict=source.nearest("verdict"),
            environment=host(),
        )


def _providers(target: Target) -> Sequence[str]:
    """The runner uses the providers that were judged; for a target without any, the default."""
    if isinstance(target, OnnxRuntimeTarget):
        return tuple(name for name, _ in target.providers())
    return Content.providers
