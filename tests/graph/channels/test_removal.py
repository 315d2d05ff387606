from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.channels.removal import plan_removal
from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels

TEXT = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
    h = Conv(x, w)
    y = Conv(h, v)}"""


def weights(channels: int, *dead: int) -> dict[str, np.ndarray]:
    w = np.ones((channels, 2, 1, 1), np.float32)
    w[list(dead)] = 0
    return {"w": w, "v": np.ones((2, channels, 1, 1), np.float32)}


def test_a_plan_is_data_and_edits_nothing(parse, flow):
    model = parse(TEXT, **weights(3, 1))
    removal = plan_removal(flow(model))
    assert {(v.name, a): i.tolist() for (v, a), i in removal.indices.items()} == {
        ("w", 0): [1], ("h", 1): [1], ("v", 1): [1],
    }  # fmt: skip
    assert model.graph.initializers["w"].const_value.numpy().shape == (3, 2, 1, 1)


def test_nothing_dead_is_nothing_modified(parse):
    outcome = DropDeadChannels()(parse(TEXT, **weights(3)))
    assert not outcome.modified and outcome.changes == [] and outcome.refusals == []


def test_a_second_run_finds_nothing(parse):
    model = parse(TEXT, **weights(5, 1, 2))
    assert DropDeadChannels()(model).modified and not DropDeadChannels()(model).modified


@pytest.mark.parametrize(("round_to", "left"), [(1, 3), (2, 4), (3, 3), (4, 4), (8, 7)])
def test_blocks_are_filled_with_dead_channels(cut, round_to, left):
    done = cut(TEXT, round_to=round_to, **weights(7, 0, 2, 4, 6))
    kept = 7 if not done.gone else done.array("w").shape[0]
    assert kept == left


def test_shapes_are_inferred_anew(parse):
    model = parse(TEXT, **weights(3, 1))
    DropDeadChannels()(model)
    assert list(model.graph[0].outputs[0].shape)[1] == 2
    assert model.graph.initializers["v"].shape == [2, 2, 1, 1]


def test_a_block_of_less_than_one_is_refused():
    with pytest.raises(ValueError, match="round_to must be at least 1, got 0"):
        DropDeadChannels(round_to=0)
