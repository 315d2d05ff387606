from __future__ import annotations

import numpy as np
import pytest

from deploypipe.quantize.corrections.bias import Bias, corrected_biases
from deploypipe.quantize.lookout import ChannelMean
from deploypipe.quantize.observe import observe
from deploypipe.quantize.params import quantized_weight
from deploypipe.quantize.units import find_units

NETS = {
    "conv": "t = Conv(x, w)",
    "conv with a bias": "t = Conv(x, w, b)",
    "groups": "t = Conv<group=2>(x, g, b)",
    "padded": "t = Conv<pads=[1,1,1,1]>(x, k, b)",
}
SHAPES = {"w": (6, 4, 1, 1), "g": (6, 2, 1, 1), "k": (6, 4, 3, 3), "b": (6,)}
IMAGES = (np.random.default_rng(8).random((12, 4, 6, 6)) + 0.5).astype(np.float32)


@pytest.fixture
def net(filled):
    def build(body: str):
        return filled(f"agraph (float[N,4,6,6] x) => (float y) {{ {body} y = Erf(t) }}", SHAPES)

    return build


@pytest.mark.parametrize("body", NETS.values(), ids=NETS)
def test_the_mean_error_of_rounded_weights_is_gone(net, quantize, body) -> None:
    """A convolution of the means is the mean of the convolutions, but at a padded border."""
    model = net(body)
    plan = quantize(model, IMAGES).plan
    (unit,) = plan.units
    mean = IMAGES.mean((0, 2, 3))
    (asked,) = Bias().needs(model, plan.units)
    bias = corrected_biases(model, plan, {asked: mean})[unit.result]
    values = model.graph.initializers
    weight = values[unit.weight].const_value.numpy()
    params = plan.weights[unit.result]
    scales = np.asarray(params.scales, np.float32).reshape(-1, 1, 1, 1)
    error = quantized_weight(weight, params) * scales - weight
    per_input = error.sum((2, 3))
    groups = 4 // weight.shape[1]
    shift = [
        per_input[o] @ mean.reshape(groups, -1)[o * groups // len(weight)]
        for o in range(len(weight))
    ]
    old = values[unit.bias].const_value.numpy() if unit.bias else 0
    np.testing.assert_allclose(bias, old - np.array(shift), rtol=1e-4, atol=1e-6)


def test_linear_layers_are_corrected_where_they_have_a_bias(parse, quantize) -> None:
    text = """agraph (float[N,2] x) => (float[N,2] y) <float[2,2] w = {1.0, 0.301, 0.7, -0.999},
      float[2] b = {0.5, 0.25}> { t = MatMul(x, w) u = Add(t, b) y = MatMul(u, w) }"""
    model = parse(text)
    x = np.float32([[1, 2], [3, 5]])
    result = quantize(model, x)
    means = {ChannelMean(one, (-1, 2), (0,)): x.mean(0) for one in "xu"}
    found = corrected_biases(model, result.plan, means)
    assert list(found) == ["t"]
    weight = np.float32([[1.0, 0.301], [0.7, -0.999]])
    params = result.plan.weights["t"]
    error = quantized_weight(weight, params) * np.float32(params.scales) - weight
    expected = np.float32([0.5, 0.25]) - x.mean(0) @ error
    np.testing.assert_allclose(found["t"], expected, rtol=1e-5)


def test_what_is_needed_is_what_weighted_units_read(net, cpu, target) -> None:
    model = net(NETS["conv"])
    needed = Bias().needs(model, find_units(model, cpu).units)
    seen = observe(model, ["x"], [{"x": IMAGES}], target, means=needed)
    ((_, mean),) = seen.means.items()
    np.testing.assert_allclose(mean, IMAGES.mean((0, 2, 3)), rtol=1e-5)


def test_a_tensor_has_other_channels_for_a_conv_than_for_a_linear_layer(filled, quantize) -> None:
    text = """agraph (float[N,8,12] x) => (float y, float z) {
      c = Conv(x, w) y = Erf(c) d = MatMul(x, v) e = Add(d, b) z = Erf(e) }"""
    model = filled(text, {"w": (4, 8, 3), "v": (12, 5), "b": (5,)})
    x = np.random.default_rng(8).random((10, 8, 12)).astype(np.float32)
    done = quantize(model, x)
    assert {unit.op for unit in done.plan.units} == {"Conv", "MatMul"}
    asked = Bias().needs(model, done.plan.units)
    found = corrected_biases(
        model, done.plan, {one: x.mean((0, 2) if one.axes == (0, 2) else (0, 1)) for one in asked}
    )
    assert {name: len(bias) for name, bias in found.items()} == {"c": 4, "d": 5}
