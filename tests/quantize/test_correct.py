from __future__ import annotations

import numpy as np
import pytest

from deploypipe.quantize import CALIBRATORS, quantize_model
from deploypipe.quantize.correct import corrected_biases, means_needed
from deploypipe.quantize.observe import observe
from deploypipe.quantize.params import quantized_weight
from deploypipe.quantize.signal import outputs_of, sqnr_db
from deploypipe.quantize.units import find_units

RNG = np.random.default_rng(8)
NETS = {
    "conv": "t = Conv(x, w)",
    "conv with a bias": "t = Conv(x, w, b)",
    "groups": "t = Conv<group=2>(x, g, b)",
    "padded": "t = Conv<pads=[1,1,1,1]>(x, k, b)",
}
IMAGES = (RNG.random((12, 4, 6, 6)) + 0.5).astype(np.float32)


@pytest.fixture
def net(parse):
    import onnx_ir as ir

    def build(body: str):
        model = parse(f"agraph (float[N,4,6,6] x) => (float y) {{ {body} y = Erf(t) }}")
        weights = {"w": (6, 4, 1, 1), "g": (6, 2, 1, 1), "k": (6, 4, 3, 3), "b": (6,)}
        for value in {v for node in model.graph for v in node.inputs if v and v.name in weights}:
            array = RNG.normal(size=weights[value.name]).astype(np.float32)
            value.const_value = ir.tensor(array, name=value.name)
            model.graph.register_initializer(value)
        return model

    return build


@pytest.mark.parametrize("body", NETS.values(), ids=NETS)
def test_the_mean_error_of_rounded_weights_is_gone(net, cpu, target, body) -> None:
    """A convolution of the means is the mean of the convolutions, but at a padded border."""
    model = net(body)
    minmax = CALIBRATORS.build("minmax")
    plan = quantize_model(model, [{"x": IMAGES}], target, calibrator=minmax, profile=cpu).plan
    (unit,) = plan.units
    means = {"x": IMAGES.mean((0, 2, 3))}
    bias = corrected_biases(model, plan, means)[unit.result]
    values = model.graph.initializers
    weight = values[unit.weight].const_value.numpy()
    params = plan.weights[unit.result]
    scales = np.asarray(params.scales, np.float32).reshape(-1, 1, 1, 1)
    error = quantized_weight(weight, params) * scales - weight
    per_input = error.sum((2, 3))
    groups = 4 // weight.shape[1]
    shift = [
        per_input[o] @ means["x"].reshape(groups, -1)[o * groups // len(weight)]
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
    found = corrected_biases(model, result.plan, {"x": x.mean(0), "u": np.float32([1, 1])})
    assert list(found) == ["t"]
    weight = np.float32([[1.0, 0.301], [0.7, -0.999]])
    params = result.plan.weights["t"]
    error = quantized_weight(weight, params) * np.float32(params.scales) - weight
    expected = np.float32([0.5, 0.25]) - x.mean(0) @ error
    np.testing.assert_allclose(found["t"], expected, rtol=1e-5)


def test_what_is_needed_is_what_weighted_units_read(net, cpu, target) -> None:
    model = net(NETS["conv"])
    needed = means_needed(model, find_units(model, cpu).units)
    seen = observe(model, ["x"], [{"x": IMAGES}], target, means=needed)
    np.testing.assert_allclose(seen.means["x"], IMAGES.mean((0, 2, 3)), rtol=1e-5)


def test_it_ships_only_where_it_brings_the_outputs_nearer(net, quantize, target, monkeypatch):
    from deploypipe.quantize import workshop

    model = net(NETS["conv with a bias"])
    probes = [{"x": image[None]} for image in IMAGES]
    good = quantize(model, IMAGES)
    monkeypatch.setattr(workshop, "corrected_biases", lambda *_: {"t": np.full(6, 9, np.float32)})
    plain = quantize(model, IMAGES)
    expected, with_it, without = outputs_of([model, good.model, plain.model], probes, target)
    assert plain.plan.biases == {}
    assert (good.notes["bias_correction_db"] > 0) == (list(good.plan.biases) == ["t"])
    assert sqnr_db(expected, with_it) >= sqnr_db(expected, without)
