from __future__ import annotations

import numpy as np
import pytest

from deploypipe.quantize.alone import noise_alone
from deploypipe.quantize.signal import decibels, outputs_of, sqnr_db

RNG = np.random.default_rng(5)
X = RNG.normal(size=(40, 4, 5, 5)).astype(np.float32)
SHAPES = {"w": (4, 4, 3, 3), "b": (4,), "v": (4, 4, 1, 1)}
TEXT = """agraph (float[N,4,5,5] x) => (float[N,4,5,5] y) {
  [one] t = Conv<pads = [1, 1, 1, 1]>(x, w, b)
  [relu] r = Relu(t)
  [two] u = Conv(r, v)
  [sum] s = Add(u, r)
  y = Erf(s)
}"""


@pytest.fixture
def net(filled):
    return filled(TEXT, SHAPES)


def test_a_unit_alone_loses_what_a_model_with_only_it_in_8_bits_loses(net, quantize, target):
    done = quantize(net, X, corrections=())
    others = {unit.name: "float" for unit in done.plan.units if unit.name != "one"}
    single = quantize(net, X, keep_float=others, corrections=())
    assert [unit.name for unit in single.plan.units] == ["one"]
    samples = [{"x": X[i : i + 1]} for i in range(4)]
    found = noise_alone(net, done.plan, samples, target)
    assert set(found) == {"one", "two", "sum"}

    from deploypipe.quantize.lookout import whole

    inner = [whole(net, ["r"]), whole(single.model, ["r"])]
    expected, _ = outputs_of(inner, samples, target)
    # What leaves the unit is rounded once more, and that the tensor 'r' itself does not show.
    params = done.plan.tensors["r"]
    given = [
        {n: np.clip(np.rint(a / params.scale), 0, 255) * params.scale for n, a in one.items()}
        for one in outputs_of(inner, samples, target)[1]
    ]
    assert found["one"] == pytest.approx(sqnr_db(expected, given), abs=0.2)


def test_errors_of_the_units_before_play_no_part(net, quantize, target):
    samples = [{"x": X[:1]}]
    done = quantize(net, X, corrections=())
    coarse = quantize(net, X * 50, corrections=())  # all tensors far too wide
    fine = noise_alone(net, done.plan, samples, target)
    poor = noise_alone(net, coarse.plan, samples, target)
    assert all(poor[name] < fine[name] - 10 for name in fine)


def test_decibels_of_nothing_are_finite():
    assert decibels(1.0, 0.0) == 300
    assert decibels(0.0, 1.0) == -300
    assert decibels(1.0, float("nan")) == decibels(1.0, float("inf")) == -300
    assert decibels(100.0, 1.0) == pytest.approx(20)
