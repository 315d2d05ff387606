from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.core.errors import UserError
from deploypipe.quantize import QParams
from deploypipe.quantize.plan import QuantPlan

X = [[[[-5.1, 0], [10, 20.4]]]]


def f32(value: float) -> float:
    return float(np.float32(value))


def test_every_number_of_a_small_net_by_hand(conv_net, quantize) -> None:
    plan: QuantPlan = quantize(conv_net, X).plan
    assert plan.tensors["x"] == QParams(f32(25.5 / 255), 51)
    highest = 2 * np.float32(20.4) + 0.5  # of relu([2, -1] * x + [0.5, 1])
    assert plan.tensors["r"] == QParams(f32(highest / 255), 0)
    assert plan.tensors["f"] == plan.tensors["p"]
    assert plan.weights["t"].scales == (f32(2 / 127), f32(1 / 127))
    assert plan.weights["y"].scales == (f32(1 / 127), f32(1 / 127))
    assert not plan.kept_float


def test_the_output_of_the_last_gemm_has_no_scale(conv_net, quantize) -> None:
    assert "y" not in quantize(conv_net, X).plan.tensors


def test_the_plan_is_json(conv_net, quantize) -> None:
    data = json.loads(json.dumps(quantize(conv_net, X).plan.to_json(), allow_nan=False))
    assert data["tensors"]["x"]["zero_point"] == 51
    assert [data["units"][0][end] for end in ("low", "high")] == [0, None]


def test_a_weight_with_a_nan_is_named(conv_net, quantize) -> None:
    weight = conv_net.graph.initializers["v"]
    broken = np.float32([[1, np.nan], [0, 1]])
    weight.const_value = ir.tensor(broken, name="v")
    with pytest.raises(UserError, match="'v' of Gemm 'head' holds a NaN"):
        quantize(conv_net, X)


def test_units_that_share_a_weight_share_its_scale(parse, quantize) -> None:
    text = """agraph (float[N,2] x) => (float[N,2] y)
      <float[2,2] m = {1.0, 0.0, 0.0, 1e-9}, float[2] b = {0.0, 1.0}>
      { t = Gemm(x, m, b) u = Sigmoid(t) y = Gemm(u, m) }"""
    plan = quantize(parse(text), [[1, 2]]).plan
    assert plan.weights["t"] == plan.weights["y"]


def test_a_folded_clip_bounds_even_a_tensor_that_is_always_zero(parse, quantize) -> None:
    text = """agraph (float[N,1,1,1] x) => (float[N,M] y)
      <float[1,1,1,1] w = {1.0}, float lo = {0.0}, float hi = {0.5}>
      { t = Conv(x, w) [clip] c = Clip(t, lo, hi) y = Flatten(c) }"""
    plan = quantize(parse(text), [[[[-1]]]]).plan
    assert plan.tensors["c"] == QParams(f32(0.5 / 255), 0)
