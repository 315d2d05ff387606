"""Exact graph passes, checked against the model before them on real samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.errors import UserError
from deploypipe.core.shelf import OneOf
from deploypipe.data import Data
from deploypipe.graph import PASSES, GraphPass, Outcome, run_passes
from deploypipe.graph.channels.proof.deployed import deployed
from deploypipe.graph.channels.proof.finding import Finding
from deploypipe.graph.channels.proof.sizes import free_symbols, open_feeds
from deploypipe.graph.check import Run, compare, random_feeds
from deploypipe.graph.evidence import summary, write_evidence
from deploypipe.graph.files import data_files, load, save, weight_bytes
from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels
from deploypipe.graph.passes.drop_identity import DropIdentity
from deploypipe.graph.passes.drop_unused import DropUnused
from deploypipe.graph.passes.fold_constants import FoldConstants
from deploypipe.graph.passes.fuse_batchnorm import FuseBatchnorm
from deploypipe.graph.passes.fuse_gelu import FuseGelu
from deploypipe.graph.passes.pad_to_conv import PadToConv
from deploypipe.graph.passes.reduce_mean_to_pool import ReduceMeanToPool
from deploypipe.graph.passes.shorten_names import ShortenNames
from deploypipe.graph.passes.strip_metadata import StripMetadata
from deploypipe.graph.passes.tie_weights import TieWeights
from deploypipe.runtime import Target
from deploypipe.stages import Desk, Stage, Work
from deploypipe.stages._batch import batch_of
from deploypipe.stages._removals import in_short
from deploypipe.validate.inside import opened

KEPT_EVIDENCE = 100_000_000
"""Bytes of weights up to which both sides of every removal are kept beside the result."""

Pass = Annotated[GraphPass, OneOf(PASSES)]

DEFAULT: tuple[GraphPass, ...] = (
    FoldConstants(),
    DropIdentity(),
    FuseBatchnorm(),
    PadToConv(),
    ReduceMeanToPool(),
    FuseGelu(),
    DropDeadChannels(),
    DropUnused(),
)
"""All exact, good for every target."""

FINISH: tuple[GraphPass, ...] = (TieWeights(), DropUnused(), StripMetadata(), ShortenNames())
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
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if not self.tolerance >= 0:
            raise ValueError(f"tolerance must not be negative, got {self.tolerance:g}")

    def work(self, data: Data) -> Work:
        return Work({"validation": min(8, len(data.split("validation")))}, answered=16, seconds=2)

    def run(self, source: Artifact, desk: Desk) -> Artifact:
        split = desk.data.split("validation")
        size = batch_of(source.path, split) or min(8, len(split))
        feeds = split.batch(range(size)).inputs
        path = desk.out / "model.onnx"
        outcome = self.apply(source.path, feeds, desk.target)
        save(outcome.model, path)
        if sum(weight_bytes(one.before) for one in outcome.evidence) <= KEPT_EVIDENCE:
            write_evidence(outcome.evidence, desk.out / "channels")
        notes = {
            "changes": [*outcome.changes, *summary(outcome.evidence)],
            "refusals": outcome.refusals,
            "channels": in_short([one.certificate for one in outcome.evidence]),
        }
        return Artifact.of(Kind.ONNX, path, "optimize", source, notes, data_files(path).values())

    def apply(self, path: Path, feeds: Mapping[str, np.ndarray] | None, target: Target) -> Outcome:
        """The optimized model in memory, compared with the file on ``feeds``, or on random inputs.

        Raises:
            UserError: an answer changed although every pass is exact; names the pass.
        """
        before = load(path)
        run = _on(target)
        checks = _fitting(before, run) if feeds is None else feeds
        passes, also = (_for_target(given, target, checks) for given in (self.passes, self.also))
        outcome = self._run(before.clone(), passes, also)
        error = compare(before, outcome.model, checks, run)
        if error <= self.tolerance:
            return outcome
        culprit = self._culprit(before, checks, run)
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
        evidence = first.evidence + more.evidence + last.evidence
        return Outcome(model, True, changes, refusals, evidence)

    def _culprit(self, before: ir.Model, checks: Mapping[str, np.ndarray], run: Run) -> str:
        model = before.clone(deep_copy=True)
        for one in (*self.passes, *self.also, *self.passes, *FINISH):
            one.call(model)
            if compare(before, model, checks, run) > self.tolerance:
                return PASSES.name_of(one)
        return "unknown"


def _for_target(
    passes: Sequence[GraphPass], target: Target, checks: Mapping[str, np.ndarray]
) -> list[GraphPass]:
    """Dead channels fill the target's blocks, unless the recipe says otherwise.

    Every removal is tested as it will run, against the noise of the model's own sums.
    """

    def test(before: ir.Model, after: ir.Model) -> list[Finding]:
        return deployed(before, after, _on(target), checks)

    return [
        replace(one, round_to=one.round_to or target.channel_block).tested(test)
        if isinstance(one, DropDeadChannels)
        else one
        for one in passes
    ]


def _on(target: Target) -> Run:
    """Runs models on the target, those too large for a single file as well."""

    def run(model: ir.Model, feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        with opened(model, target) as session:
            return session(feeds)

    return run


def _fitting(model: ir.Model, run: Run) -> Mapping[str, np.ndarray]:
    """Random inputs of the first sizes that the model takes, two samples if it takes so many."""
    if not free_symbols(model):
        return random_feeds(model, batch=2)
    reason: UserError | None = None
    for feeds in open_feeds(model):
        try:
            run(model, feeds)
        except UserError as error:
            reason = reason or error
        else:
            return feeds
    raise reason or UserError("its inputs cannot be drawn at random", then="Give samples")
