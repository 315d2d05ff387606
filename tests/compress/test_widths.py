"""Full blocks: which channels come back, and when none does."""

from __future__ import annotations

import numpy as np

from deploypipe.compress.ranking import Choice
from deploypipe.compress.widths import fill_blocks
from deploypipe.graph.channels.groups import ChannelGroup, ParameterSlices


def group(name, channels, *slices):
    parts = tuple(
        ParameterSlices(weight, axis, np.arange(channels)[:, None] + first)
        for weight, axis, first in slices
    )
    return ChannelGroup(name, channels, parts)


def fill(groups, dead, scores, shapes, block=16, narrow=8):
    choices = [Choice(one, np.array(gone)) for one, gone in zip(groups, dead, strict=True)]
    weights = {name: np.zeros(shape) for name, shape in shapes.items()}
    scores = [np.array(score, float) for score in scores]
    filled = fill_blocks(choices, scores, weights, block=block, narrow=narrow)
    return [choice.dead.tolist() for choice in filled]


def test_a_width_comes_up_to_the_next_block_with_its_most_important_channels():
    one = group("a", 32, ("w", 0, 0))
    dead = list(range(20))  # 12 are kept, 4 come back
    assert fill([one], [dead], [np.arange(32)], {"w": (32, 3, 3, 3)}) == [list(range(16))]


def test_a_narrow_width_stays():
    one = group("a", 16, ("w", 0, 0))
    assert fill([one], [range(8)], [np.arange(16)], {"w": (16, 3, 3, 3)}) == [list(range(8))]


def test_a_full_block_stays():
    one = group("a", 48, ("w", 0, 0))
    assert fill([one], [range(16)], [np.arange(48)], {"w": (48, 3, 3, 3)}) == [list(range(16))]


def test_no_more_come_back_than_there_are():
    one = group("a", 12, ("w", 0, 0))
    assert fill([one], [[0, 1]], [np.arange(12)], {"w": (12, 3, 3, 3)}) == [[]]


def test_a_shared_stream_is_filled_by_the_group_that_touches_the_fewest_tensors():
    early = group("early", 16, ("first", 0, 0), ("second", 0, 8))
    late = group("late", 16, ("second", 0, 16))
    shapes = {"first": (16, 3, 3, 3), "second": (32, 3, 3, 3)}
    # 4 + 8 channels of the stream "second" are kept; "first" has 4 and is narrow.
    dead = [list(range(12)), list(range(8))]
    assert fill([early, late], dead, [np.arange(16)] * 2, shapes) == [list(range(12)), [0, 1, 2, 3]]


def test_channels_that_no_group_has_count_as_kept():
    one = group("a", 8, ("w", 0, 0))  # the other 24 outputs of w are pinned
    assert fill([one], [range(6)], [np.arange(8)], {"w": (32, 3, 3, 3)}) == [[]]


def test_block_one_changes_nothing():
    one = group("a", 32, ("w", 0, 0))
    assert fill([one], [[3, 5]], [np.arange(32)], {"w": (32, 3, 3, 3)}, block=1) == [[3, 5]]


def test_input_widths_and_flattened_blocks_are_not_asked():
    inputs = ChannelGroup("a", 12, (ParameterSlices("w", 1, np.arange(12)[:, None]),))
    flat = ChannelGroup("b", 12, (ParameterSlices("v", 0, np.arange(24).reshape(12, 2)),))
    shapes = {"w": (3, 12, 1, 1), "v": (24, 3)}
    assert fill([inputs, flat], [[0], [0]], [np.arange(12)] * 2, shapes) == [[0], [0]]
