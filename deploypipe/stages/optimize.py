"""Exact graph passes, checked against the model before them on real samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.errors import UserError
from deploypipe.core.shelf import OneOf
from deploypipe.data import Data
from deploypipe.graph import PASSES, GraphPass, Outcome, run_passes
from deploypipe.graph.check import compare, random_feeds
from deploypipe.graph.files import data_files, load, save, to_bytes
from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels
from deploypipe.graph.passes.drop_identity import DropIdentity
from deploypipe.graph.passes.drop_unused import DropUnused
from deploypipe.graph.passes.fold_constants import FoldConstants
from deploypipe.graph.passes.fuse_batchnorm import FuseBatchnorm
from deploypipe.graph.passes.reduce_mean_to_pool import ReduceMeanToPool
from deploypipe.graph.passes.shorten_names import ShortenNames
from deploypipe.graph.passes.strip_metadata import StripMetadata
from deploypipe.runtime import Target
from deploypipe.stages import Desk, Stage, Work
from deploypipe.stages._batch import batch_of

Pass = Annotated[GraphPass, OneOf(PASSES)]

DEFAULT: tuple[GraphPass, ...] = (
    FoldConstants(),
    DropIdentity(),
    FuseBatchnorm(),
    ReduceMeanToPool(),
    DropDeadChannels(),
    DropUnused(),
)
"""All exact, good for every target."""

FINISH: tuple[GraphPass, ...] = (DropUnused(), StripMetadata(), ShortenNames())
"""Run once at the end: nothing after them adds names or metadata."""


@dataclass(frozen=True)
class Optimize(Stage):
    """Run ``passes``, then those under ``also``, until nothing changes; outputs must stay equal."""

    passes: tuple[Pass, ...] = DEFAULT
    also: tuple[Pass, ...] = ()
    tolerance: float = 1e-4

    takes: ClassVar[Kind] = Kind.ONNX
    gives: ClassVar[Kind] = Kind.ONNX
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "onnxscript")

    def __post_init__(self) -> None:
        if not self.tolerance >= 0:
            raise ValueError(f"tolerance must not be negative, got {self.tolerance:g}")

    def work(self, data: Data) -> Work:
        return Work({"validation": min(8, len(data.split("validation")))}, answered=16, seconds=2)

    def run(self, source: Artifact, desk: Desk) -> Artifact:
        split = desk.data.split("validation")
        size = batch_of(source.path, desk.target, split) or min(8, len(split))
        feeds = split.batch(range(size)).inputs
        path = desk.out / "model.onnx"
        outcome = self.apply(source.path, feeds, desk.target)
        save(outcome.model, path)
        notes = {"changes": outcome.changes, "refusals": outcome.refusals}
        return Artifact.of(Kind.ONNX, path, "optimize", source, notes, data_files(path).values())

    def apply(self, path: Path, feeds: Mapping[str, np.ndarray] | None, target: Target) -> Outcome:
        """The optimized model in memory, compared with the file on ``feeds``, or on random inputs.

        Raises:
            UserError: an answer changed although every pass is exact; names the pass.
        """
        before = load(path)
        checks = [random_feeds(before, batch=2)] if feeds is None else [feeds]
        outcome = self._run(before.clone(deep_copy=True), self.passes, self.also)
        error = self._error(before, outcome.model, checks, target)
        if error <= self.tolerance:
            return outcome
        culprit = self._culprit(before, checks, target)
        raise UserError(
            f"the outputs changed by {error:.1e} of their size; the first pass to change them is "
            f"'{culprit}'",
            where="optimize",
            then="Leave it out of optimize.passes, and report the model: no pass may do this",
        )

    def _run(
        self, model: ir.Model, passes: Sequence[GraphPass], also: Sequence[GraphPass]
    ) -> Outcome:
        first = run_passes(model, passes)
        more = run_passes(model, (*also, *passes)) if also else Outcome(model, False)
        last = run_passes(model, FINISH, rounds=1)
        changes = first.changes + more.changes + last.changes
        refusals = (more.refusals if also else first.refusals) + last.refusals
        return Outcome(model, True, changes, refusals)

    def _error(
        self,
        before: ir.Model,
        after: ir.Model,
        checks: Sequence[Mapping[str, np.ndarray]],
        target: Target,
    ) -> float:
        def run(model: ir.Model, feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
            with target.open(to_bytes(model)) as session:
                return session(feeds)

        return max(compare(before, after, feeds, run) for feeds in checks)

    def _culprit(
        self, before: ir.Model, checks: Sequence[Mapping[str, np.ndarray]], target: Target
    ) -> str:
        model = before.clone(deep_copy=True)
        for one in (*self.passes, *self.also, *self.passes, *FINISH):
            one.call(model)
            if self._error(before, model, checks, target) > self.tolerance:
                return PASSES.name_of(one)
        return "unknown"
