"""How many channels stay, and which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from deploypipe.compress import Criterion
from deploypipe.compress.masks import Mask
from deploypipe.compress.ranking import Choice, choose, masks_of, score_groups
from deploypipe.graph.channels.groups import ChannelGroup, ParameterSlices


@dataclass(frozen=True)
class Told(Criterion):
    """Scores by the group's name."""

    scores: Mapping[str, np.ndarray] = field(default_factory=dict)

    def score(self, group: ChannelGroup, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.asarray(self.scores[group.name], float)


@pytest.fixture
def kept(group):
    """Scores per group -> channels that stay, per group."""

    def run(scores, amount=0.5, floor=0.0, round_to=1):
        groups = [group(name, len(values)) for name, values in scores.items()]
        how = {"amount": amount, "floor": floor, "round_to": round_to}
        return [c.kept for c in choose(groups, score_groups(groups, {}, Told(scores)), **how)]

    return run


def test_the_least_important_channels_go(group):
    how = {"amount": 0.5, "floor": 0, "round_to": 1}
    (choice,) = choose([group("a", 4)], [np.array([4.0, 1, 3, 2])], **how)
    assert choice.dead.tolist() == [1, 3]
    assert choice.kept == 2


@pytest.mark.parametrize("amount", [0.1, 0.25, 0.5, 0.9])
def test_the_amount_is_that_of_all_channels_together(kept, amount):
    scores = np.random.default_rng(0).uniform(1, 2, (2, 500))
    left = sum(kept({"a": scores[0], "b": scores[1]}, amount))
    assert abs(left - 1000 * (1 - amount)) <= 1


def test_a_group_whose_channels_are_more_alike_loses_fewer(kept):
    uneven = [1, 1, 1, 1, 1, 1, 1, 90]
    assert kept({"even": [5] * 8, "uneven": uneven}, 0.4) == [8, 1]


def test_groups_are_compared_by_shape_not_by_size(kept):
    scores = np.arange(1.0, 9)
    assert kept({"small": scores, "large": 1000 * scores}) == [4, 4]


def test_equal_scores_are_shared_out_evenly(kept):
    assert kept({"a": [1] * 8, "b": [7] * 8}) == [4, 4]
    assert kept({"a": [0] * 8, "b": [0] * 16}, amount=0.25) == [6, 12]


@pytest.mark.parametrize("amount", [0.01, 0.5, 0.99])
def test_no_group_becomes_empty(kept, amount):
    assert min(kept({"a": [1e-9, 1e-9, 1e9], "b": [0, 0]}, amount)) >= 1


def test_every_group_keeps_the_floor(kept):
    uneven = [1e-6] * 15 + [1]
    assert kept({"even": [1] * 160, "uneven": uneven}, 0.08, floor=0.5) == [160, 8]


def test_the_floor_holds_after_rounding(kept):
    # 10 of 32 are the floor; the nearest multiple of 8 would be below it
    assert kept({"a": [1e-6] * 31 + [1]}, 0.97, floor=0.3, round_to=8) == [16]


def test_a_floor_that_is_a_whole_number_is_not_rounded_up(kept):
    assert kept({"a": [1e-6] * 69 + [1]}, 0.99, floor=0.1) == [7]  # 70 * 0.1 > 7 in floats


@pytest.mark.parametrize(("left", "rounded"), [(3, 4), (5, 4), (7, 8), (1, 4), (12, 12)])
def test_what_stays_is_the_nearest_multiple(kept, left, rounded):
    scores = [1e-6] * (12 - left) + [1.0] * left
    amount = (12 - left - 0.5) / 11 if left < 12 else 0.0
    found = kept({"a": scores}, max(amount, 1e-9), round_to=4)
    assert found == [rounded]


def test_a_group_smaller_than_a_block_stays_whole(kept):
    assert kept({"a": [1, 2, 3]}, 0.9, round_to=8) == [3]


def test_a_group_that_is_no_multiple_is_never_exceeded(kept):
    assert kept({"a": np.arange(1, 12)}, 0.05, round_to=8) == [8]
    assert kept({"a": np.arange(1, 15)}, 0.05, round_to=8) == [14]


def test_without_groups_there_is_nothing_to_choose():
    assert choose([], [], amount=0.5, floor=0, round_to=1) == []


def test_masks_name_all_positions_of_a_channel_in_every_parameter(group):
    flat = ParameterSlices("head", 1, np.array([[0, 1], [2, 3], [4, 5]]))
    buffer = ParameterSlices("running_mean", 0, np.arange(3)[:, None])
    made = group("conv", 3)
    made = ChannelGroup("conv", 3, (*made.slices, flat, buffer))
    masks = masks_of([Choice(made, np.array([0, 2]))], ["conv", "head"])
    assert masks == [Mask("conv", 0, (0, 2)), Mask("head", 1, (0, 1, 4, 5))]


def test_a_group_that_stays_whole_has_no_masks(group):
    assert masks_of([Choice(group("conv", 3), np.array([], int))], ["conv"]) == []
