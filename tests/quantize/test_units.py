from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.core.errors import UserError
from deploypipe.quantize import Kind, Unit
from deploypipe.quantize.units import find_units

W = """<float[2,2,1,1] w = {1.0, 2.0, 3.0, 4.0}, float[2] b = {1.0, 2.0},
  float[2,2] m = {1.0, 2.0, 3.0, 4.0}, float[2,1] column = {1.0, 2.0}>"""


@pytest.fixture
def found(parse, cpu):
    def find(
        body: str, inputs: str = "float[N,2,3,3] x", outputs: str = "float y", weights: str = W
    ):
        return find_units(parse(f"agraph ({inputs}) => ({outputs}) {weights} {{ {body} }}"), cpu)

    return find


def test_a_conv_takes_its_relu_in(conv_net, cpu) -> None:
    first, pool, flat, head = find_units(conv_net, cpu).units
    assert first == Unit(Kind.CONV, "conv", "Conv", ("x",), "t", "r", "w", "b", 0, low=0.0)
    assert (pool.kind, pool.inputs, pool.output) == (Kind.UNARY, ("r",), "p")
    assert (flat.kind, flat.inputs, flat.output) == (Kind.MOVE, ("p",), "f")
    linear = Unit(Kind.LINEAR, "head", "Gemm", ("f",), "y", "y", "v", "c", 0)
    assert head == replace(linear, float_output=True)


def test_a_clip_from_zero_bounds_the_output(found) -> None:
    weights = W[:-1] + ", float lo = {0.0}, float hi = {6.0}>"
    (unit,) = found("[a] t = Conv(x, w) y = Clip(t, lo, hi)", weights=weights).units
    assert (unit.output, unit.low, unit.high) == ("y", 0.0, 6.0)


def test_a_clip_from_minus_one_is_left_outside(found) -> None:
    weights = W[:-1] + ", float lo = {-1.0}, float hi = {1.0}>"
    units, kept = found("t = Conv(x, w) [clip] y = Clip(t, lo, hi)", weights=weights)
    assert units[0].output == "t"
    assert "Clip from 0" in kept["clip"]


def test_a_relu_is_not_taken_in_where_something_else_reads_the_conv(found) -> None:
    units, kept = found("t = Conv(x, w) [relu] r = Relu(t) y = Add(t, r)")
    assert units[0].output == "t"
    assert "right before it" in kept["relu"]


def test_a_relu_is_not_taken_in_where_the_conv_is_an_output(found) -> None:
    units, _ = found("t = Conv(x, w) y = Relu(t)", outputs="float t, float y")
    assert units[0].output == "t"


def test_a_matmul_takes_the_vector_added_to_it_as_its_bias(found) -> None:
    (unit,) = found("t = MatMul(x, m) s = Add(b, t) y = Relu(s)", "float[N,2] x").units
    assert (unit.bias, unit.axis, unit.result, unit.output) == ("b", 1, "t", "y")


def test_a_matrix_added_to_a_matmul_is_no_bias(found) -> None:
    units, kept = found("t = MatMul(x, m) [add] y = Add(t, m)", "float[2,2] x")
    assert [unit.bias for unit in units] == [None]
    assert "constant" in kept["add"]


@pytest.mark.parametrize(
    ("body", "inputs", "reason"),
    [
        ("[n] y = Conv(x, k)", "float[N,2,3,3] x, float[2,2,1,1] k", "weight is not constant"),
        ("[n] y = Conv(x, w, k)", "float[N,2,3,3] x, float[2] k", "bias is not constant"),
        ("[n] y = MatMul(x, x)", "float[2,2] x", "both operands are computed"),
        ("[n] y = MatMul(m, x)", "float[2,2] x", "weight is not constant"),
        ("[n] y = Gemm<alpha=2.0>(x, m)", "float[2,2] x", "alpha"),
        ("[n] y = Gemm<transA=1>(x, m)", "float[2,2] x", "transA"),
        ("[n] y = Gemm(x, m, k)", "float[2,2] x, float[2] k", "bias is not constant"),
        ("[n] y = Gemm(x, m, column)", "float[2,2] x", "its bias of [2, 1] differs between rows"),
        ("[n] y = Softmax(x)", "float[2,2] x", "probabilities"),
        ("[n] y = LayerNormalization(x, b)", "float[2,2] x", "normalisation"),
        ("[n] y = BatchNormalization(x, b, b, b, b)", "float[N,2,3,3] x", "fold it into the Conv"),
        ("[n] y = ConvTranspose(x, w)", "float[N,2,3,3] x", "no 8-bit kernel"),
        ("[n] y = Erf(x)", "float[N,2,3,3] x", "no 8-bit kernel"),
        ("[n] y = Add(x, b)", "float[2,2] x", "one of its inputs is a constant"),
        (
            "[n] y, i = MaxPool<kernel_shape=[1,1]>(x) z = Cast<to=1>(i)",
            "float[N,2,3,3] x",
            "second",
        ),
    ],
)
def test_what_does_not_fuse_says_why(found, body: str, inputs: str, reason: str) -> None:
    outputs = "float y, float z" if "z =" in body else "float y"
    units, kept = found(body, inputs, outputs)
    assert not units
    assert reason in kept["n"]


def test_an_initializer_that_the_caller_may_replace_is_no_weight(parse, cpu) -> None:
    model = parse("agraph (float[N,2,3,3] x, float[2,2,1,1] w) => (float y) { [n] y = Conv(x, w) }")
    default = model.graph.inputs[1]
    default.const_value = ir.tensor(np.ones((2, 2, 1, 1), np.float32), name="w")
    model.graph.register_initializer(default)
    assert "not constant" in find_units(model, cpu).kept_float["n"]


def test_a_weight_from_a_constant_node_counts(found) -> None:
    body = "k = Constant<value = float[2,2] {1.0, 2.0, 3.0, 4.0}>() y = MatMul(x, k)"
    assert [unit.weight for unit in found(body, "float[N,2] x").units] == ["k"]


def test_shape_arithmetic_is_not_talked_about(found) -> None:
    units, kept = found("s = Shape(x) t = Add(s, s) y = Cast<to=1>(t)")
    assert not units
    assert len(kept) == 1


def test_nodes_inside_a_subgraph_stay_float(found) -> None:
    body = """c = Conv(x, w)
      y = If(p) <then_branch = g1 () => (float[N,2,3,3] t) { [inner] t = Conv(c, w) },
                 else_branch = g2 () => (float[N,2,3,3] e) { e = Identity(c) }>"""
    units, kept = found(body, "float[N,2,3,3] x, bool p")
    assert [unit.op for unit in units] == ["Conv"]
    assert "subgraph" in kept["inner"]


def test_half_precision_is_refused(parse, cpu) -> None:
    model = parse("agraph (float16[1] x) => (float16[1] y) { y = Relu(x) }")
    with pytest.raises(UserError, match="'x' is float16; quantization starts from float32"):
        find_units(model, cpu)


def test_a_quantized_model_is_refused(parse, cpu) -> None:
    text = "agraph (float[1] x) => (uint8[1] y) <float s = {1.0}> { [q] y = QuantizeLinear(x, s) }"
    with pytest.raises(UserError, match="already quantized: it has QuantizeLinear 'q'"):
        find_units(parse(text), cpu)
