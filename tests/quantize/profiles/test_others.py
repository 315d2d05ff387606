"""Profiles of machines that may be elsewhere: their files are looked at, and run as they are."""

from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.files import to_bytes
from deploypipe.quantize import PROFILES
from deploypipe.quantize.params import quantized_weight

RNG = np.random.default_rng(6)
X = RNG.normal(size=(16, 2, 4, 4)).astype(np.float32)
RESIDUAL = """agraph (float[N,2,4,4] x) => (float[N,2,4,4] y)
<float[2,2,1,1] w = {1.0, -2.0, 3.0, 0.5}, float[2] b = {0.5, 1.0}>
{ [first] c = Conv(x, w, b) r = Relu(c) [second] d = Conv(r, w, b) [sum] s = Add(d, r)
  y = Relu(s) }"""


@pytest.fixture
def quantized(parse, quantize):
    def run(name: str, text: str = RESIDUAL, x: np.ndarray = X):
        model = parse(text)
        return model, quantize(model, x, profile=PROFILES.build(name))

    return run


@pytest.mark.parametrize("name", ["cpu-avx2", "arm64", "tensorrt"])
def test_the_files_mean_the_float_model(name: str, quantized, target) -> None:
    model, done = quantized(name)
    with target.open(to_bytes(model)) as session:
        expected = session({"x": X})["y"]
    with target.open(to_bytes(done.model)) as session:
        given = session({"x": X})["y"]
    assert np.abs(given - expected).max() < 0.04 * np.abs(expected).max()


def zero_points(done) -> set[tuple[str, int]]:
    """dtype and value of every zero point of an activation."""
    constants = done.model.graph.initializers
    found = set()
    for node in done.model.graph:
        if node.op_type == "QuantizeLinear" and len(node.inputs) > 2:
            array = constants[node.inputs[2].name].const_value.numpy()
            found.add((array.dtype.name, int(array)))
    return found


def test_arm_takes_signed_activations_with_zero_at_the_bottom_after_a_relu(quantized) -> None:
    _, done = quantized("arm64")
    assert {dtype for dtype, _ in zero_points(done)} == {"int8"}
    assert ("int8", -128) in zero_points(done)


def test_tensorrt_takes_symmetric_inputs_and_floats_behind_every_kernel(quantized) -> None:
    _, done = quantized("tensorrt")
    assert zero_points(done) == {("int8", 0)}
    graph = done.model.graph
    makers = {out.name: node for node in graph for out in node.outputs}
    for node in graph:
        if node.op_type == "Conv":
            assert [makers[v.name].op_type for v in node.inputs[:2]] == ["DequantizeLinear"] * 2
            assert node.inputs[2].name in graph.initializers
            assert all(use.node.op_type != "QuantizeLinear" for use in node.outputs[0].uses())
    add = next(node for node in graph if node.op_type == "Add")
    assert [makers[v.name].op_type for v in add.inputs] == ["Conv", "DequantizeLinear"]


def test_a_profile_for_elsewhere_is_not_timed_and_says_so(parse, quantize) -> None:
    def race(models, feeds):
        raise AssertionError("nothing is to be timed")

    done = quantize(parse(RESIDUAL), X, profile=PROFILES.build("tensorrt"), race=race)
    assert done.modified
    assert "it is for TensorrtExecutionProvider, the target is CPU" in done.refusals[-1]


def saturated(x: np.ndarray, w: np.ndarray) -> int:
    """How many sums of two products of neighbours leave 16 bits."""
    products = x.astype(np.int32)[None] * w.astype(np.int32)
    pairs = products[:, 0::2] + products[:, 1::2]
    return int((np.abs(pairs) > 2**15 - 1).sum())


def test_without_vnni_no_sum_of_two_products_saturates(quantized) -> None:
    weight = RNG.normal(size=(4, 6)).astype(np.float32)
    weight[0, :2], weight[1] = 3.0, 0.1
    numbers = ", ".join(str(v) for v in weight.ravel())
    text = f"""agraph (float[N,6,1,1] x) => (float[N,4] y)
      <float[4,6,1,1] w = {{{numbers}}}> {{ c = Conv(x, w) y = Flatten(c) }}"""
    x = np.abs(RNG.normal(size=(8, 6, 1, 1))).astype(np.float32)
    full = np.full(6, 255)
    values = {}
    for name in ("cpu-vnni", "cpu-avx2"):
        _, done = quantized(name, text, x)
        (params,) = done.plan.weights.values()
        values[name] = quantized_weight(weight.reshape(4, 6, 1, 1), params).reshape(4, 6)
    assert saturated(full, values["cpu-vnni"]) > 0
    assert saturated(full, values["cpu-avx2"]) == 0
    assert np.abs(values["cpu-avx2"]).max() > 64  # finer than 7 bits for all
