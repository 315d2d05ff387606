"""Two models on the weights as they are: equal, unequal, or not to be told."""

from __future__ import annotations

import math

import numpy as np

from deploypipe.graph.channels.proof.evaluate import evaluate64
from deploypipe.graph.channels.proof.real_weights import real_weights

NET = """g (float[1,3,6,6] x) => (float[1,2,6,6] y) {
    h = Conv <pads = [1,1,1,1]> (x, w1, b1)
    r = Relu(h)
    y = Conv(r, w2)
}"""
RNG = np.random.default_rng(0)
X = {"x": RNG.standard_normal((1, 3, 6, 6)).astype(np.float32)}


def weights(dead: int = 2) -> dict[str, np.ndarray]:
    arrays = {"w1": (5, 3, 3, 3), "b1": (5,), "w2": (2, 5, 1, 1)}
    rng = np.random.default_rng(1)
    made = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in arrays.items()}
    made["w1"][:dead] = made["b1"][:dead] = 0
    return made


def test_dead_channels_may_go(parse):
    whole = weights()
    cut = {"w1": whole["w1"][2:], "b1": whole["b1"][2:], "w2": whole["w2"][:, 2:]}
    finding = real_weights(evaluate64(parse(NET, **whole), X), parse(NET, **cut), X)
    assert finding.ok
    assert finding.error <= 1e-14


def test_channels_in_the_wrong_order_are_noticed(parse):
    whole = weights()
    cut = {"w1": whole["w1"][2:], "b1": whole["b1"][2:], "w2": whole["w2"][:, [2, 4, 3]]}
    finding = real_weights(evaluate64(parse(NET, **whole), X), parse(NET, **cut), X)
    assert finding.ok is False
    assert finding.error > 0.01


def test_a_bias_that_is_off_by_one_unit_in_float32_is_noticed(parse):
    whole = weights()
    other = {**whole, "b1": np.nextafter(whole["b1"], np.float32(9))}
    assert real_weights(evaluate64(parse(NET, **whole), X), parse(NET, **other), X).ok is False


def test_outputs_of_another_shape_are_noticed(parse):
    whole = weights()
    other = parse(NET, **{**whole, "w2": whole["w2"][:1]})
    finding = real_weights(evaluate64(parse(NET, **whole), X), other, X)
    assert finding.ok is False
    assert finding.error == math.inf


def test_an_output_that_is_missing_is_noticed(parse):
    whole = weights()
    other = NET.replace("6] y)", "6] z)").replace("y = Conv(r", "z = Conv(r")
    assert (
        real_weights(evaluate64(parse(NET, **whole), X), parse(other, **whole), X).error == math.inf
    )


def test_an_op_without_float64_is_a_reason_not_a_proof(parse):
    model = parse("g (float[2] x) => (float[2] y) { y = RandomNormalLike(x) }")
    finding = real_weights({}, model, {"x": np.ones(2, np.float32)})
    assert finding.ok is None
    assert math.isnan(finding.error)
    assert finding.why == "not applicable: RandomNormalLike: draws random numbers"


def test_outputs_that_are_not_finite_prove_nothing(parse):
    model = parse("g (float[2] x) => (float[2] y) { y = Log(x) }")
    feeds = {"x": -np.ones(2, np.float32)}
    finding = real_weights(evaluate64(model, feeds), model, feeds)
    assert finding.ok is None
    assert "not finite" in finding.why
