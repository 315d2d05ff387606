"""Mask the channels that matter least; ``drop-dead-channels`` removes them after the export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from deploypipe.compress import CRITERIA, Criterion
from deploypipe.compress.criteria.l2 import L2
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
from deploypipe.export.parameter_groups import parameter_groups
from deploypipe.export.to_onnx import expected_seconds
from deploypipe.stages import Desk, Stage, Work


@dataclass(frozen=True)
class Prune(Stage):
    """Rank all channels of all groups at once and mask the least important ``amount`` of them.

    Every group keeps a multiple of ``round_to`` channels; every tensor wider than ``narrow`` keeps a
    multiple of ``block``.
    """

    amount: float = 0.5
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

    def work(self, data: Data) -> Work:
        validation = len(data.split("validation"))
        return Work({"validation": validation}, forwarded=validation, seconds=8)

    def run(self, source: Artifact, desk: Desk) -> Artifact:
        model = TorchModel.load(source.path)
        split = desk.data.split("validation")
        sample = split.batch([0, len(split) - 1]).inputs
        with desk.progress.expecting("prune: find groups", expected_seconds(model.module)):
            groups = parameter_groups(model.module, sample)
        if not groups:
            raise UserError(
                "no channel of this model can be pruned",
                where="prune",
                then="Look at the ops with: deploypipe inspect on its export; leave the step out",
            )
        state = {name: value.detach().numpy() for name, value in model.module.named_parameters()}
        how = {"amount": self.amount, "floor": self.floor}
        scores = score_groups(groups, state, self.criterion)
        choices = choose(groups, scores, **how, round_to=self.round_to)
        choices = fill_blocks(choices, scores, state, block=self.block, narrow=self.narrow)
        masks = masks_of(choices, state)
        apply_masks(model.module, masks)
        TorchModel(model.module, model.builder, tuple(masks)).save(desk.out)
        notes = {
            "accuracy": accuracy(model.module, split) if split.labels is not None else None,
            "groups": [_row(choice) for choice in choices],
            "changes": [_line(choice) for choice in choices if len(choice.dead)],
            "refusals": [_refusal(choice) for choice in choices if not len(choice.dead)],
        }
        return Artifact.of(Kind.TORCH, desk.out, "prune", source, notes)


def _row(choice: Choice) -> dict[str, Json]:
    return {"name": choice.group.name, "before": choice.group.channels, "after": choice.kept}


def _refusal(choice: Choice) -> str:
    return f"{choice.group.name}: all {choice.group.channels} channels stay"


def _line(choice: Choice) -> str:
    return f"{choice.group.name}: {choice.group.channels} -> {choice.kept} channels"
