"""Models that somebody else quantized."""

from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.files import to_bytes
from deploypipe.quantize import PROFILES
from deploypipe.quantize.examine import Cause, examine_quantized, summary
from deploypipe.quantize.mend import mend

RNG = np.random.default_rng(6)
X = RNG.normal(size=(16, 2, 4, 4)).astype(np.float32)
ROWS = RNG.normal(size=(5, 4)).astype(np.float32)
RESIDUAL = """agraph (float[N,2,4,4] x) => (float[N,2,4,4] y)
<float[2,2,1,1] w = {1.0, -2.0, 3.0, 0.5}, float[2] b = {0.5, 1.0}>
{ [first] c = Conv(x, w, b) r = Relu(c) [second] d = Conv(r, w, b) [third] e = Conv(r, w)
  s = Add(d, e) y = Erf(s) }"""
LINEAR = """agraph (float[N,4] x) => (float[N,2] y)
<float s = {0.05}, uint8 z = {128}, int8[4,2] v = {1, -2, 3, 4, 100, -90, 7, 8},
 float[2] t = {0.01, 0.02}, float[2] c = {0.5, -0.25}>
{ q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear<axis=1>(v, t)
  [linear] m = MatMul(d, w) y = Add(m, c) }"""


@pytest.fixture
def signed(parse, quantize):
    return quantize(parse(RESIDUAL), X, profile=PROFILES.build("arm64")).model


def answer(model, target, x):
    with target.open(to_bytes(model)) as session:
        return next(iter(session({"x": x}).values()))


def test_signed_activations_are_named_and_mended(signed, target) -> None:
    count, findings = examine_quantized(signed, target)
    assert count == 3
    assert {one.cause for one in findings} == {Cause.SIGNED_FAN_OUT}
    assert summary(count, findings).endswith("of 3 nodes with 8-bit weights run in float")
    mended = mend(signed)
    assert mended.modified
    assert mended.changes[0].endswith("activations are uint8 instead of int8, 128 larger")
    assert examine_quantized(mended.model, target) == (3, [])
    before, after = answer(signed, target, X), answer(mended.model, target, X)
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_a_float_bias_is_named_and_mended(parse, target) -> None:
    model = parse(LINEAR)
    count, (finding,) = examine_quantized(model, target)
    assert (count, finding.node, finding.cause) == (1, "linear", Cause.FLOAT_BIAS)
    assert "--repair" in finding.to_json()["then"]
    mended = mend(model)
    assert mended.changes == ["1 biases are int32 instead of float"]
    assert examine_quantized(mended.model, target) == (1, [])
    before, after = answer(model, target, ROWS), answer(mended.model, target, ROWS)
    np.testing.assert_allclose(after, before, atol=2e-3)
    assert [node.op_type for node in model.graph].count("DequantizeLinear") == 2


@pytest.mark.parametrize(
    ("behind", "cause"),
    [
        ("y = HardSwish(c)", Cause.NO_OUTPUT),
        (
            "r = Relu(c) q2 = QuantizeLinear(r, s, z) y = DequantizeLinear(q2, s, z)",
            Cause.ZERO_POINT,
        ),
        (
            "r = Relu(c) q2 = QuantizeLinear(r, t2, z2) y = DequantizeLinear(q2, t2, z2)",
            Cause.ZERO_POINT,
        ),
    ],
)
def test_causes_behind_a_convolution(parse, target, behind: str, cause: Cause) -> None:
    model = parse(f"""agraph (float[N,1,2,2] x) => (float[N,2,2,2] y)
      <float s = {{0.05}}, uint8 z = {{128}}, int8[2,1,1,1] v = {{100, -50}}, float t = {{0.01}},
       float[2] t2 = {{0.1, 0.2}}, uint8[2] z2 = {{0, 7}}>
      {{ q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear(v, t)
         [conv] c = Conv(d, w) {behind} }}""")
    _, (finding,) = examine_quantized(model, target)
    assert (finding.node, finding.cause) == ("conv", cause)
    assert not mend(model).modified


def test_a_model_that_fuses_wholly_and_one_in_float_have_nothing_to_say(
    conv_net, quantize, target
) -> None:
    good = quantize(conv_net, X[:, :1, :2, :2]).model
    assert examine_quantized(good, target) == (2, [])
    assert summary(2, []) == "all 2 nodes with 8-bit weights run in 8 bits"
    assert examine_quantized(conv_net, target) == (0, [])
    assert not mend(good).modified
