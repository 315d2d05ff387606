from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.graph.channels.ops.unary import Unary

TEXT = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {{
    h = Conv(x, w, b)
    a = {op}
    y = Conv(a, v)}}"""


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    """Channel 1 is zero, channel 2 the constant -2, channel 0 is live."""
    w = np.zeros((3, 2, 1, 1), np.float32)
    w[0] = 1
    b = np.array([0, 0, -2], np.float32)
    return {"w": w, "b": b, "v": np.ones((2, 3, 1, 1), np.float32)}


ZERO_STAYS = ["Abs(h)", "Neg(h)", "Elu(h)", "Tanh(h)", "Gelu(h)", "HardSwish(h)", "Identity(h)"]
ZERO_STAYS += ["LeakyRelu(h)", "Erf(h)", "Sin(h)", "Mish(h)", "Softsign(h)", "Dropout(h)"]


@pytest.mark.parametrize("op", ZERO_STAYS)
def test_zero_stays_zero_and_a_constant_stays_behind(cut, weights, op):
    assert cut(TEXT.format(op=op), exact=False, **weights).gone["w"] == {0: [1]}


@pytest.mark.parametrize("op", ["Sigmoid(h)", "HardSigmoid(h)", "Softplus(h)", "Exp(h)", "Cos(h)"])
def test_zero_becomes_a_constant_that_stays(cut, weights, op):
    done = cut(TEXT.format(op=op), exact=False, **weights)
    assert done.gone == {}
    assert done.refusals == ["3 constant channels stay: their constant is not zero"]


@pytest.mark.parametrize("op", ["Relu(h)", "Clip(h, zero, six)"])
def test_zero_and_a_negative_constant_become_zero(cut, weights, op):
    limits = {"zero": np.float32(0), "six": np.float32(6)} if "Clip" in op else {}
    assert cut(TEXT.format(op=op), **weights, **limits).gone["w"] == {0: [1, 2]}


def test_a_clip_with_a_positive_minimum_makes_zero_constant(cut, weights):
    assert cut(TEXT.format(op="Clip(h, one)"), one=np.float32(1), **weights).gone == {}


def test_a_cast_between_floats_passes_channels(cut, weights):
    double = {**weights, "v": weights["v"].astype(np.float64)}
    text = TEXT.format(op="Cast <to = 11> (h)").replace("=> (float[", "=> (double[")
    assert cut(text, **double).gone["w"] == {0: [1]}


def test_a_cast_to_integers_pins(cut, weights):
    text = TEXT.format(op="Cast <to = 6> (h)\nf = Cast <to = 1> (a)").replace("Conv(a", "Conv(f")
    assert cut(text, **weights).gone == {}


def test_the_mask_of_a_dropout_pins_what_it_masks(cut, weights):
    text = TEXT.format(op="x0 = Identity(h)\na, m = Dropout(h)").replace("a = x0 =", "x0 =")
    text = text.replace("y) {", "y, bool[N,3,4,4] m) {")
    assert cut(text, **weights).gone == {}


@pytest.mark.parametrize("op", sorted(Unary.ops - {"Cast"}))
@pytest.mark.parametrize("dtype", [ir.DataType.FLOAT, ir.DataType.FLOAT16])
def test_every_op_of_the_family_can_be_run_on_a_constant(op, dtype):
    from deploypipe.graph.channels.ops.unary import _run

    x = ir.Value(name="x", type=ir.TensorType(dtype), shape=ir.Shape([2]))
    node = ir.node(op, [x])
    ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 24})
    assert np.isfinite(_run(node, np.array([0.0, 0.5]))).all()
