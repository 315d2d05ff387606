"""What is mended of other people's models, and what is left alone."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.quantize.mend import agreement, mend
from deploypipe.quantize.signal import outputs_of

RNG = np.random.default_rng(6)
X = RNG.normal(size=(1, 2, 4, 4)).astype(np.float32)
ROWS = RNG.normal(size=(5, 4)).astype(np.float32)
CONV = """agraph (float[1,2,4,4] x) => (float[1,2,H,W] y{more})
<float s = {{0.05}}, int8 z = {{{zero}}}, int8[2,2,1,1] v = {{100, -90, 50, 3}}, float t = {{0.01}},
 int64[8] p = {{0, 0, 1, 1, 0, 0, 1, 1}}, int64[1] i = {{1}}, int64[4] shape = {{1, 2, 2, 8}}>
{{ q = QuantizeLinear(x, s, z) {between} d = DequantizeLinear({codes})
  w = DequantizeLinear(v, t) y = Conv(d, w) }}"""


def conv(parse, between="", codes="q, s, z", more="", zero=3) -> ir.Model:
    return parse(CONV.format(between=between, codes=codes, more=more, zero=zero))


def answers(model, target, feeds):
    with target.open(ir.to_proto(model).SerializeToString()) as session:
        return session(feeds)


@pytest.mark.parametrize(
    ("between", "codes", "zero"),
    [
        ("", "q, s, z", 3),
        ("", "q, s", 0),
        ("f = Reshape(q, shape) g = Reshape(f, k)", "g, s, z", 3),
        ("f = MaxPool<kernel_shape=[2,2], pads=[1,1,1,1]>(q)", "f, s, z", 3),
        ("f, g = Split<axis=3>(q) e = DequantizeLinear(g, s)", "f, s", 0),
        ("f = Transpose<perm=[0,1,3,2]>(q)", "f, s, z", -128),
    ],
    ids=["plain", "no zero point", "reshapes", "pool", "split", "transpose"],
)
def test_codes_that_only_move_are_shifted(parse, target, between, codes, zero) -> None:
    model = conv(parse, between, codes, zero=zero)
    if "Reshape(f, k)" in between:
        shape = ir.Value(name="k", const_value=ir.tensor(np.array([1, 2, 4, 4])))
        model.graph.register_initializer(shape)
        node = next(one for one in model.graph if one.outputs[0].name == "g")
        node.replace_input_with(1, shape)
    mended = mend(model)
    assert mended.changes == ["1 activations are uint8 instead of int8, 128 larger"]
    assert not mended.refusals
    zeros = [
        node.inputs[2].const_value.numpy().dtype
        for node in mended.model.graph
        if node.op_type.endswith("eLinear") and node.inputs[0].name != "v"
    ]
    assert set(zeros) == {np.dtype(np.uint8)}
    before, after = (answers(one, target, {"x": X}) for one in (model, mended.model))
    assert before["y"].any()
    np.testing.assert_array_equal(after["y"], before["y"])


@pytest.mark.parametrize(
    ("between", "codes", "more", "why"),
    [
        ("f = Pad(q, p)", "f, s, z", "", "Pad 'f' reads its codes"),
        ("f = Identity(q)", "f, s, z", ", int8[1,2,4,4] q", "its codes leave the graph"),
        ("f = Cast<to=1>(q)", "q, s, z", ", float[1,2,4,4] f", "Cast 'f' reads its codes"),
        ("f = Concat<axis=2>(q, q)", "f, s, z", "", "Concat 'f' reads its codes"),
        ("g = Neg(z) f = Neg(g)", "q, s, f", "", "the zero point of DequantizeLinear 'd' is"),
    ],
)
def test_codes_that_somebody_else_reads_stay(parse, target, between, codes, more, why) -> None:
    model = conv(parse, between, codes, more)
    mended = mend(model)
    assert not mended.modified
    (refusal,) = mended.refusals
    assert refusal.startswith(f"'q' stays int8: {why}")
    assert agreement(model, mended.model, [{"x": X}], target) == 300


def test_a_type_that_the_attribute_tells_is_shifted_too(parse, target) -> None:
    text = """agraph (float[2] x) => (float[2] y) <float s = {0.05}>
      { q = QuantizeLinear<output_dtype=3>(x, s) y = DequantizeLinear(q, s) }"""
    model = parse(text, opset=21)
    model.ir_version = 10
    mended = mend(model)
    assert mended.modified
    x = np.float32([-3.21, 9.99])
    given = answers(mended.model, target, {"x": x})["y"]
    np.testing.assert_array_equal(given, answers(model, target, {"x": x})["y"])
    np.testing.assert_allclose(given, [-3.2, 6.35])


LINEAR = """agraph (float[N,4] x) => (float[N,2] y)
<float s = {{0.05}}, uint8 z = {{128}}, int8[4,2] v = {{1, -2, 3, 4, 100, -90, 7, 8}},
 float[{scales}] t = {{{steps}}}, float[{size}] c = {{{bias}}}>
{{ q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear<axis={axis}>(v, t)
  [linear] m = MatMul(d, w) y = Add(m, c) }}"""


@pytest.mark.parametrize(("size", "bias"), [(2, "0.5, -0.25"), (1, "0.5")])
def test_a_bias_becomes_int32_for_every_channel(parse, target, size, bias) -> None:
    model = parse(LINEAR.format(scales=2, steps="0.01, 0.02", size=size, bias=bias, axis=1))
    mended = mend(model)
    assert mended.changes == ["1 biases are int32 instead of float"]
    before, after = outputs_of([model, mended.model], [{"x": ROWS}], target)
    np.testing.assert_allclose(after[0]["y"], before[0]["y"], atol=2e-3)
    assert agreement(model, mended.model, [{"x": ROWS}], target) > 40


def test_where_every_product_has_a_scale_of_its_own_the_bias_stays(parse) -> None:
    model = parse(
        LINEAR.format(scales=4, steps="0.01, 0.02, 0.03, 0.04", size=2, bias="1.0, 2.0", axis=0)
    )
    assert not mend(model).modified
