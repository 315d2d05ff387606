"""Which channels to prune: one global ranking, a floor for every group.

Scores are divided by their group's mean, so that a group with many weights does not win by size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deploypipe.compress import Criterion
from deploypipe.compress.masks import Mask
from deploypipe.graph.channels.groups import ChannelGroup


@dataclass(frozen=True)
class Choice:
    """What becomes of a group: the channels that go, int64, in ascending order."""

    group: ChannelGroup
    dead: np.ndarray

    @property
    def kept(self) -> int:
        """Channels that stay."""
        return self.group.channels - len(self.dead)


def choose(
    groups: Sequence[ChannelGroup],
    scores: Sequence[np.ndarray],
    *,
    amount: float,
    floor: float,
    round_to: int,
) -> list[Choice]:
    """Rank all channels of all groups at once and let the least important ``amount`` of them go.

    ``scores``, one array [channels] per group, come from :func:`score_groups`.  The number kept of
    a group is rounded to the nearest multiple of ``round_to``; it is never below one block, below
    the share ``floor``, or above the group.
    """
    if not groups:
        return []
    choices = []
    for group, score, survivors in zip(groups, scores, _survivors(scores, amount), strict=True):
        least = max(math.ceil(group.channels * floor / round_to - 1e-9), 1) * round_to
        stay = min(max(round(survivors / round_to) * round_to, least), group.channels)
        order = np.argsort(score, kind="stable")
        choices.append(Choice(group, np.sort(order[: group.channels - stay])))
    return choices


def _survivors(scores: Sequence[np.ndarray], amount: float) -> list[int]:
    """How many of each group are among the most important; equal scores are shared out evenly."""
    values = np.concatenate(scores)
    owner = np.repeat(np.arange(len(scores)), [len(score) for score in scores])
    rank = np.concatenate([np.argsort(np.argsort(s, kind="stable")) / len(s) for s in scores])
    gone = math.floor(amount * (len(values) - 1)) + 1
    stay = np.lexsort((rank, values))[gone:]
    return [int(count) for count in np.bincount(owner[stay], minlength=len(scores))]


def score_groups(
    groups: Sequence[ChannelGroup], parameters: Mapping[str, np.ndarray], criterion: Criterion
) -> list[np.ndarray]:
    """Each group's scores over their mean, float64 [channels]."""
    scores = [criterion.score(group, parameters) for group in groups]
    return [score / max(float(score.mean()), 1e-12) for score in scores]


def masks_of(choices: Iterable[Choice], parameters: Iterable[str]) -> list[Mask]:
    """Masks for the parameters among the slices of the chosen channels."""
    names = set(parameters)
    return [
        Mask(part.parameter, part.axis, tuple(int(i) for i in np.unique(part.index[choice.dead])))
        for choice in choices
        if len(choice.dead)
        for part in choice.group.slices
        if part.parameter in names
    ]
