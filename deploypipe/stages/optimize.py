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
from deploypipe.graph.channels.proof.finding import told
from deploypipe.graph.channels.proof.permutation import as_deployed
from deploypipe.graph.check import compare, random_feeds
from deploypipe.graph.evidence import summary, write_evidence
from deploypipe.graph.files import data_files, load, save, to_bytes, weight_bytes
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

KEPT_EVIDENCE = 100_000_000
"""Bytes of weights up to which both sides of every removal are kept beside the result."""

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
        if sum(weight_bytes(one.before) for one in outcome.evidence) <= KEPT_EVIDENCE:
            write_evidence(outcome.evidence, desk.out / "channels")
        proofs = [one.certificate["proof"] for one in outcome.evidence]
        changes = [*outcome.changes, *summary(outcome.evidence)]
        notes = {"changes": changes, "refusals": outcome.refusals, "channel_proofs": proofs}
        return Artifact.of(Kind.ONNX, path, "optimize", source, notes, data_files(path).values())

    def apply(self, path: Path, feeds: Mapping[str, np.ndarray] | None, target: Target) -> Outcome:
        """The optimized model in memory, compared with the file on ``feeds``, or on random inputs.

        Raises:
            UserError: an answer changed although every pass is exact; names the pass.
        """
        before = load(path)
        checks = [random_feeds(before, batch=2)] if feeds is None else [feeds]
        passes, also = (_for_target(given, target) for given in (self.passes, self.also))
        outcome = self._run(before.clone(), passes, also)
        self._check_removals(outcome, checks, target)
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
        evidence = first.evidence + more.evidence + last.evidence
        return Outcome(model, True, changes, refusals, evidence)

    def _check_removals(
        self, outcome: Outcome, checks: Sequence[Mapping[str, np.ndarray]], target: Target
    ) -> None:
        """Every removal as it will run, against the noise of the model's own sums.

        Raises:
            UserError: the outputs moved by more than that; nothing is written.
        """

        def run(model: ir.Model, feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
            with target.open(to_bytes(model)) as session:
                return session(feeds)

        for one in outcome.evidence:
            finding = as_deployed(one.before, one.after, run, checks[0])
            one.certificate["proof"].append(told(finding))
            if finding.ok is False:
                raise UserError(
                    f"removing dead channels changed the outputs: {finding.why}",
                    where="optimize",
                    then="Leave drop-dead-channels out of optimize.passes, and report the model",
                )

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


def _for_target(passes: Sequence[GraphPass], target: Target) -> list[GraphPass]:
    """Dead channels fill the target's blocks, unless the recipe says otherwise."""
    return [
        replace(one, round_to=target.channel_block)
        if isinstance(one, DropDeadChannels) and one.round_to == 0
        else one
        for one in passes
    ]
