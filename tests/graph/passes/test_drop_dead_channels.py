from __future__ import annotations

import numpy as np
import pytest

from deploypipe.core.errors import UserError
from deploypipe.graph import PASSES, run_passes

TEXT = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
    h = Conv <pads = [1,1,1,1]> (x, w)
    n = Mul(h, g3)
    r = Relu(n)
    y = Conv(r, v)}"""


def weights() -> dict[str, np.ndarray]:
    g3 = np.array([1, 0, 1], np.float32).reshape(3, 1, 1)
    return {
        "g3": g3,
        "w": np.ones((3, 2, 3, 3), np.float32),
        "v": np.ones((2, 3, 1, 1), np.float32),
    }


def test_dead_channels_leave_and_the_answers_stay(parse, same):
    before, after = parse(TEXT, **weights()), parse(TEXT, **weights())
    outcome = run_passes(after, [PASSES.build("drop-dead-channels")])
    assert outcome.changes == [
        "g3: axis 0 from 3 to 2", "w: axis 0 from 3 to 2", "v: axis 1 from 3 to 2",
    ]  # fmt: skip
    same(before, after)


def test_constants_inside_nodes_are_cut_as_well(parse, same):
    text = """g (float[N,2] x) => (float[N,2] y) {
        c = Constant <value = float[3] {1.0, 0.0, 2.0}> ()
        h = Gemm(x, w)
        s = Mul(h, c)
        y = Gemm(s, v)}"""
    arrays = {"w": np.ones((2, 3), np.float32), "v": np.ones((3, 2), np.float32)}
    before, after = parse(text, **arrays), parse(text, **arrays)
    assert PASSES.build("drop-dead-channels")(after).modified
    same(before, after)


def test_its_option_is_checked():
    with pytest.raises(UserError) as error:
        PASSES.build({"drop-dead-channels": {"round_to": -1}}, "steps[0].optimize.passes[0]")
    assert str(error.value) == (
        "steps[0].optimize.passes[0].drop-dead-channels: round_to must not be negative, got -1."
    )
