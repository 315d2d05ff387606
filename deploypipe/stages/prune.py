"""Mask the channels that matter least; ``drop-dead-channels`` removes them after the export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from deploypipe.compress import CRITERIA, Criterion
from deploypipe.compress.criteria.l2 import L2
from deploypipe.compress.depth import SAMPLES, Lesion, least_missed, whole_masks
from deploypipe.compress.masks import apply_masks
from deploypipe.compress.ranking import Choice, choose, masks_of, score_groups
from deploypipe.compress.torch_model import TorchModel
from deploypipe.compress.training import accuracy
from deploypipe.compress.widths import fill_blocks
from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.errors import UserError
from deploypipe.core.files import Json
from deploypipe.core.shelf import OneOf
from deploypipe.data import Data
from deploypipe.data.dataset import names_classes
from deploypipe.export.residual_branches import Branch
from deploypipe.export.structure import structure_of
from deploypipe.export.to_onnx import expected_seconds
from deploypipe.graph.channels.groups import ChannelGroup
from deploypipe.stages import Desk, Stage, Work


@dataclass(frozen=True)
class Prune(Stage):
    """Rank all channels of all groups at once and mask the least important ``amount`` of them.

    Every group keeps a multiple of ``round_to`` channels; every tensor wider than ``narrow`` keeps a
    multiple of ``block``.  Before that, ``branches`` residual branches go as a whole, those that are
    missed least.
    """

    amount: float = 0.5
    branches: int = 0
    floor: float = 0.1
    round_to: int = 8
    block: int = 1
    narrow: int = 8
    criterion: Annotated[Criterion, OneOf(CRITERIA)] = L2()

    takes: ClassVar[Kind] = Kind.TORCH
    gives: ClassVar[Kind] = Kind.TORCH
    needs: ClassVar[tuple[str, ...]] = ("torch",)
    packages: ClassVar[tuple[str, ...]] = ("torch", "onnx-ir", "onnxscript")

    def __post_init__(self) -> None:
        if not 0 < self.amount < 1:
            raise ValueError(f"amount must be in (0, 1), got {self.amount}")
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor must be in [0, 1], got {self.floor}")
        for name, value in (("round_to", self.round_to), ("block", self.block)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.branches < 0:
            raise ValueError(f"branches must not be negative, got {self.branches}")
        if self.narrow < 0:
            raise ValueError(f"narrow must not be negative, got {self.narrow}")

    def scores_labels(self) -> bool:
        return True

    def work(self, data: Data) -> Work:
        validation = len(data.split("validation"))
        samples = {"validation": validation}
        if self.branches:
            samples["train"] = min(SAMPLES, len(data.split("train")))
        return Work(samples, forwarded=validation, seconds=8)

    def run(self, source: Artifact, desk: Desk) -> Artifact:
        model = TorchModel.load(source.path)
        split = desk.data.split("validation")
        sample = split.batch([0, len(split) - 1]).inputs
        with desk.progress.expecting("prune: find groups", expected_seconds(model.module)):
            found = structure_of(model.module, sample)
        if not found.groups:
            raise UserError(
                "no channel of this model can be pruned",
                where="prune",
                then="Look at the ops with: deploypipe inspect on its export; leave the step out",
            )
        lesions = self._lesions(model, found.branches, desk)
        gone = {name for one in lesions for name in one.parameters}
        masks = whole_masks(model.module, sorted(gone))
        apply_masks(model.module, masks)
        state = {name: value.detach().numpy() for name, value in model.module.named_parameters()}
        groups = [one for one in found.groups if not _names(one, state) <= gone]
        choices = self._choices(groups, state)
        masks += masks_of(choices, state)
        apply_masks(model.module, masks)
        TorchModel(model.module, model.builder, tuple(masks)).save(desk.out)
        notes = {
            "accuracy": accuracy(model.module, split) if names_classes(split.labels) else None,
            "groups": [_row(choice) for choice in choices],
            "branches": {one.name: one.divergence for one in lesions},
            "changes": [
                *(f"branch of {one.name}: gone" for one in lesions),
                *(_line(choice) for choice in choices if len(choice.dead)),
            ],
            "refusals": [_refusal(choice) for choice in choices if not len(choice.dead)],
        }
        return Artifact.of(Kind.TORCH, desk.out, "prune", source, notes)

    def _lesions(self, model: TorchModel, branches: Sequence[Branch], desk: Desk) -> list[Lesion]:
        if self.branches > len(branches):
            raise UserError(
                f"{self.branches} residual branches were to go, the model has {len(branches)}",
                where="prune.branches",
                then=f"Give at most {len(branches)}",
            )
        if not self.branches:
            return []
        named = {one.name: one.parameters for one in branches}
        split = desk.data.split("train")
        return least_missed(model.module, named, split, self.branches, desk.progress)

    def _choices(
        self, groups: Sequence[ChannelGroup], state: Mapping[str, np.ndarray]
    ) -> list[Choice]:
        scores = score_groups(groups, state, self.criterion)
        how = {"amount": self.amount, "floor": self.floor}
        choices = choose(groups, scores, **how, round_to=self.round_to)
        return fill_blocks(choices, scores, state, block=self.block, narrow=self.narrow)


def _names(group: ChannelGroup, state: Mapping[str, np.ndarray]) -> set[str]:
    """The parameters that a group's channels lie in."""
    return {part.parameter for part in group.slices if part.parameter in state}


def _row(choice: Choice) -> dict[str, Json]:
    return {"name": choice.group.name, "before": choice.group.channels, "after": choice.kept}


def _refusal(choice: Choice) -> str:
    return f"{choice.group.name}: all {choice.group.channels} channels stay"


def _line(choice: Choice) -> str:
    return f"{choice.group.name}: {choice.group.channels} -> {choice.kept} channels"
