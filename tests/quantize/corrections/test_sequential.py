from __future__ import annotations

import numpy as np
import pytest

from deploypipe.quantize.corrections.sequential import Biases, Sequential
from deploypipe.quantize.signal import outputs_of

SHAPES = {
    "w": (8, 3, 3, 3),
    "b": (8,),
    "d": (8, 1, 3, 3),
    "p": (6, 8, 1, 1),
    "v": (6, 5),
    "c": (5,),
}
NET = """agraph (float[N,3,8,8] x) => (float[N,5] y) {
  t = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(t) e = Conv<group=8>(r, d) s = Relu(e)
  f = Conv(s, p) g = GlobalAveragePool(f) h = Flatten(g) m = MatMul(h, v) y = Add(m, c) }"""
IMAGES = (np.random.default_rng(1).normal(size=(40, 3, 8, 8)) + 0.3).astype(np.float32)


def test_the_mean_of_the_outputs_is_the_float_models(filled, draft, target) -> None:
    """Exactly on the samples it was fitted to, whatever the layers before it did."""
    start = draft(filled(NET, SHAPES), IMAGES)
    found = Sequential().propose(start)
    models = [start.shop.model, start.made.model, found.made.model]
    answers = outputs_of(models, start.lessons, target)
    expected, before, after = (np.mean([one["y"] for one in each], 0) for each in answers)
    assert np.abs(after - expected).max() < 0.1 * np.abs(before - expected).max()


def test_every_layer_that_can_take_a_bias_gets_one(filled, draft) -> None:
    found = Sequential().propose(draft(filled(NET, SHAPES), IMAGES))
    assert sorted(found.made.plan.biases) == ["e", "f", "m", "t"]


def test_a_bias_that_was_corrected_before_is_the_start(filled, draft) -> None:
    """Fitted twice, nothing is left to correct."""
    first = Sequential().propose(draft(filled(NET, SHAPES), IMAGES))
    second = Sequential().propose(first)
    for name, bias in first.made.plan.biases.items():
        np.testing.assert_allclose(second.made.plan.biases[name], bias, atol=0.02)


def test_without_a_layer_that_takes_a_bias_there_is_nothing_to_do(filled, draft) -> None:
    text = "agraph (float[N,4] x) => (float[N,4] y) { y = MatMul(x, w) }"
    start = draft(filled(text, {"w": (4, 4)}), IMAGES.reshape(-1, 4)[:20])
    assert Sequential().propose(start) is None


def test_a_layer_that_no_sample_reaches_keeps_its_bias(filled, draft) -> None:
    """As behind a threshold: there is no mean to put right."""
    start = draft(filled(NET, SHAPES), IMAGES)
    plan = start.made.plan
    unit = next(one for one in plan.units if one.result == "m")
    reached, not_reached = ({"m": np.ones((rows, 5), np.float32)} for rows in (2, 0))
    for exact, given in ((reached, not_reached), (not_reached, reached)):
        biases = Biases(start.shop.model, plan)
        biases.settle(unit, [exact], [given])
        assert biases.found == {}
    biases.settle(unit, [reached, not_reached], [not_reached, reached])
    np.testing.assert_array_equal(
        biases.found["m"], start.shop.model.graph.initializers["c"].const_value
    )


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="samples must be at least 1"):
        Sequential(samples=0)
