from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.constants import constant_of
from deploypipe.quantize import PROFILES
from deploypipe.quantize.corrections.clip import Clip

RNG = np.random.default_rng(4)
NET = "agraph (float[N,64] x) => (float y) { t = Gemm(x, w, b) y = Relu(t) }"
SHAPES = {"w": (64, 12), "b": (12,)}
X = RNG.normal(size=(20, 64)).astype(np.float32)


def error(rows: np.ndarray, scales: np.ndarray, limit: int = 127) -> np.ndarray:
    tried = np.asarray(scales)[:, None]
    return ((np.clip(np.rint(rows / tried), -limit, limit) * tried - rows) ** 2).sum(1)


def test_no_channel_is_worse_and_heavy_tails_are_better() -> None:
    rows = RNG.laplace(size=(30, 200)).astype(np.float32)
    plain = np.abs(rows).max(1) / 7
    best = Clip(smallest=0.3).scales(rows, plain, 7)
    assert (error(rows, best, 7) <= error(rows, plain, 7) * (1 + 1e-5)).all()
    assert error(rows, best, 7).sum() < 0.85 * error(rows, plain, 7).sum()


def test_few_weights_find_a_lucky_scale() -> None:
    rows = RNG.normal(size=(50, 9)).astype(np.float32)
    plain = np.abs(rows).max(1) / 127
    best = Clip().scales(rows, plain, 127)
    assert error(rows, best).sum() < 0.7 * error(rows, plain).sum()


def test_rows_are_taken_in_blocks_without_a_difference(monkeypatch) -> None:
    from deploypipe.quantize.corrections import clip

    rows = RNG.normal(size=(30, 50)).astype(np.float32)
    plain = np.abs(rows).max(1) / 127
    whole = Clip().scales(rows, plain, 127)
    monkeypatch.setattr(clip, "_AT_ONCE", 120)
    assert np.array_equal(Clip().scales(rows, plain, 127), whole)


def test_the_plan_takes_the_scales_and_the_biases_still_fit(filled, constants, draft) -> None:
    start = draft(constants(filled(NET, SHAPES), b=1e7 * (np.arange(12) == 3)), X)
    before, after = (
        np.float32(one.made.plan.weights["t"].scales) for one in (start, Clip().propose(start))
    )
    assert (after != before).any()
    assert after[3] == before[3]


def test_units_of_one_weight_keep_one_set_of_scales(filled, draft) -> None:
    text = """agraph (float[N,64] x) => (float y) {
      t = MatMul(x, w) u = Relu(t) v = MatMul(u, w) y = Erf(v) }"""
    plan = Clip().propose(draft(filled(text, {"w": (64, 64)}), X)).made.plan
    assert plan.weights["t"].scales == plan.weights["v"].scales


def test_weights_whose_neighbours_sums_are_limited_stay(filled, draft) -> None:
    start = draft(filled(NET, SHAPES), X, PROFILES.build("cpu-avx2"))
    assert Clip().propose(start) is None


def test_the_smallest_factor_is_a_share() -> None:
    with pytest.raises(ValueError, match=r"smallest must be in \(0, 1\), got 1"):
        Clip(smallest=1)


def test_the_weights_of_the_float_model_stay(filled, draft) -> None:
    start = draft(filled(NET, SHAPES), X)
    before = constant_of(start.shop.model.graph.initializers["w"]).copy()
    Clip().propose(start)
    assert np.array_equal(constant_of(start.shop.model.graph.initializers["w"]), before)
