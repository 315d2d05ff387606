from __future__ import annotations

import numpy as np
import pytest

from deploypipe.core.errors import UserError
from deploypipe.quantize import PROFILES

FUSING = {
    "conv": "c = Conv(x, w, b) y = Flatten(c)",
    "conv without bias": "c = Conv(x, w) y = Flatten(c)",
    "conv and relu": "c = Conv(x, w, b) r = Relu(c) y = Flatten(r)",
    "conv and clip from 0": "c = Conv(x, w, b) r = Clip(c, zero, six) y = Flatten(r)",
    "depthwise conv": "c = Conv<group=2>(x, d, b) y = Flatten(c)",
    "max pool": "c = Conv(x, w) p = MaxPool<kernel_shape=[2,2]>(c) y = Flatten(p)",
    "max pool after relu": (
        "c = Conv(x, w) r = Relu(c) p = MaxPool<kernel_shape=[2,2]>(r) y = Flatten(p)"
    ),
    "average pool": "c = Conv(x, w) p = AveragePool<kernel_shape=[2,2]>(c) y = Flatten(p)",
    "transpose": "c = Conv(x, w) p = Transpose<perm=[0,2,3,1]>(c) y = Flatten(p)",
    "squeeze": "c = Conv(x, w) g = GlobalAveragePool(c) p = Squeeze(g, axes) y = Softmax(p)",
    "residual": "c = Conv(x, w) e = Conv(c, w) s = Add(c, e) r = Relu(s) y = Flatten(r)",
    "residual and clip": (
        "c = Conv(x, w) e = Conv(c, w) s = Add(c, e) r = Clip(s, zero, six) y = Flatten(r)"
    ),
    "sum with itself": "c = Conv(x, w) s = Add(c, c) y = Flatten(s)",
    "concat": "c = Conv(x, w) e = Conv(c, w) s = Concat<axis=1>(c, e) y = Flatten(s)",
    "gemm": "f = Flatten(x) y = Gemm(f, m, n)",
    "gemm, relu, gemm": "f = Flatten(x) g = Gemm(f, m, n) r = Relu(g) y = Gemm(r, k, n)",
    "gemm, clip, gemm": "f = Flatten(x) g = Gemm(f, m, n) r = Clip(g, zero, six) y = Gemm(r, k)",
    "gemm, gemm": "f = Flatten(x) g = Gemm(f, m) y = Gemm(g, k, n)",
    "matmul": "f = Flatten(x) y = MatMul(f, m)",
    "matmul and bias": "f = Flatten(x) g = MatMul(f, m) y = Add(g, n)",
    "matmul, bias swapped, relu, matmul": (
        "f = Flatten(x) g = MatMul(f, m) h = Add(n, g) r = Relu(h) y = MatMul(r, k)"
    ),
    "conv, reshape, gemm": "c = Conv(x, w, b) r = Relu(c) f = Flatten(r) y = Gemm(f, m, n)",
}
ROW = "1.0, 2.0, 3.0, -4.0"
CONSTANTS = f"""<float[2,2,1,1] w = {{1.0, -2.0, 3.0, 0.5}}, float[2,1,1,1] d = {{1.0, -2.0}},
  float[2] b = {{0.5, 1.0}}, float zero = {{0.0}}, float six = {{6.0}}, int64[2] axes = {{2, 3}},
  float[8,4] m = {{{", ".join([ROW] * 8)}}}, float[4] n = {{1.0, -1.0, 2.0, 0.0}},
  float[4,2] k = {{{ROW}, {ROW}}}, float[2] o = {{1.0, 2.0}}>"""


@pytest.mark.parametrize("name", FUSING)
def test_what_the_table_says_fuses_does_fuse(name: str, parse, quantize) -> None:
    body = FUSING[name].replace("k, n)", "k, o)")
    model = parse(f"agraph (float[N,2,2,2] x) => (float[N,K] y) {CONSTANTS} {{ {body} }}")
    result = quantize(model, np.random.default_rng(0).normal(size=(16, 2, 2, 2)))
    assert not result.audit.unfused
    weighted = [u for u in result.plan.units if u.kind.has_weight]
    assert len(weighted) == body.count("Conv(") + body.count("Conv<") + body.count(
        "Gemm("
    ) + body.count("MatMul(")


def test_a_pooling_that_would_spoil_the_model_stays_float(parse, quantize) -> None:
    body = "c = Conv(x, w) p = AveragePool<kernel_shape=[2,2], dilations=[1,1]>(c) y = Flatten(p)"
    text = f"agraph (float[N,2,2,2] x) => (float[N,K] y) {CONSTANTS} {{ {body} }}"
    result = quantize(parse(text, opset=19), np.ones((1, 2, 2, 2)))
    assert result.changes[0] == "1 Conv in 8 bits"
    assert any("no 8-bit pooling takes" in why for why in result.refusals)


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (["avx2", "avx512_vnni"], "cpu-vnni"),
        (["avx2", "avx_vnni"], "cpu-vnni"),
        (["avx2"], "cpu-avx2"),
    ],
)
def test_the_processors_flags_pick_the_profile(monkeypatch, flags, name: str) -> None:
    from deploypipe.quantize.profiles import cpu

    monkeypatch.setattr(cpu, "host", lambda: {"flags": flags})
    monkeypatch.setattr(cpu.platform, "machine", lambda: "x86_64")
    assert PROFILES.name_of(PROFILES.build("cpu").resolve()) == name
    monkeypatch.setattr(cpu.platform, "machine", lambda: "aarch64")
    assert PROFILES.name_of(PROFILES.build("cpu").resolve()) == "arm64"


def test_seven_bit_weights_are_an_option() -> None:
    assert PROFILES.build({"cpu": {"weight_bits": 7}}).weight_limit == 63


@pytest.mark.parametrize("bits", [1, 9])
def test_bits_that_int8_does_not_hold_are_refused(bits: int) -> None:
    with pytest.raises(UserError, match=r"weight_bits must be in 2\.\.8"):
        PROFILES.build({"cpu": {"weight_bits": bits}})
