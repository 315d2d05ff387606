from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.graph.channels.ops.unary import Unary
from deploypipe.graph.channels.rule import Values

TEXT = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {{
    h = Conv(x, w, b)
    a = {op}
    y = Conv(a, v)}}"""
PADDED = TEXT.replace("Conv(a", "Conv <pads = [1,1,1,1]> (a")


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    """Channel 1 is zero, channel 2 the constant -2, channel 0 is live."""
    w = np.zeros((3, 2, 1, 1), np.float32)
    w[0] = 1
    b = np.array([0, 0, -2], np.float32)
    return {"w": w, "b": b, "v": np.ones((2, 3, 1, 1), np.float32)}


def padded(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {**weights, "v": np.ones((2, 3, 3, 3), np.float32)}


ZERO_STAYS = ["Abs", "Neg", "Elu", "Tanh", "Gelu", "HardSwish", "Identity", "LeakyRelu", "Erf"]
ZERO_STAYS += ["Sin", "Mish", "Softsign", "Dropout", "Asinh", "Atan", "Tan", "Celu", "Selu"]
ZERO_STAYS += ["Sinh"]
MOVES = ["Sigmoid", "Softplus", "Exp", "Cos", "Cosh"]
TO_ZERO = ["Relu", "ThresholdedRelu", "HardSigmoid <alpha = 0.5, beta = 0.0>"]
STEPS = ["Ceil", "Floor", "Round", "Sign", "Shrink <lambd = 1.0>"]


@pytest.mark.parametrize("op", ZERO_STAYS)
def test_where_zero_stays_zero_all_constants_go(cut, weights, op):
    done = cut(TEXT.format(op=f"{op}(h)"), exact=False, **weights)
    assert done.gone["w"] == {0: [1, 2]} and done.gone["v"] == {1: [1, 2]}


@pytest.mark.parametrize("op", ZERO_STAYS)
def test_where_zero_stays_zero_it_goes_and_the_constant_stays_at_a_border(cut, weights, op):
    done = cut(PADDED.format(op=f"{op}(h)"), exact=False, **padded(weights))
    assert done.gone["w"] == {0: [1]}


@pytest.mark.parametrize("op", MOVES)
def test_where_zero_moves_it_is_a_constant_for_the_bias(cut, weights, op):
    done = cut(TEXT.format(op=f"{op}(h)"), exact=False, **weights)
    assert done.gone["w"] == {0: [1, 2]} and len(done.after.graph[-1].inputs) == 3


@pytest.mark.parametrize("op", MOVES)
def test_where_zero_moves_one_constant_stays_at_a_border(cut, weights, op):
    done = cut(PADDED.format(op=f"{op}(h)"), exact=False, **padded(weights))
    assert len(done.gone["w"][0]) == 1


@pytest.mark.parametrize("op", TO_ZERO)
def test_a_negative_constant_becomes_zero(cut, weights, op):
    done = cut(PADDED.format(op=f"{op}(h)"), exact=False, **padded(weights))
    assert done.gone["w"] == {0: [1, 2]}


def test_a_clip_makes_constants_of_its_bounds(cut, weights):
    zero, six, one = np.float32(0), np.float32(6), np.float32(1)
    done = cut(PADDED.format(op="Clip(h, zero, six)"), zero=zero, six=six, **padded(weights))
    assert done.gone["w"] == {0: [1, 2]}
    done = cut(TEXT.format(op="Clip(h, one)"), one=one, **weights)
    assert done.after.graph[-1].inputs[2].const_value.numpy().tolist() == [2, 2]


def test_an_old_clip_has_its_bounds_in_attributes(cut, weights):
    op = "Clip <min = 0.0, max = 6.0> (h)"
    assert cut(PADDED.format(op=op), opset=10, **padded(weights)).gone["w"] == {0: [1, 2]}


def test_bounds_that_are_computed_pin(cut, weights):
    text = TEXT.format(op="Clip(h, low)").replace("4,4] x", "4,4] x, float low", 1)
    assert cut(text, **weights).gone == {}


@pytest.mark.parametrize("op", STEPS)
def test_a_constant_away_from_a_step_goes(cut, weights, op):
    weights["b"][2] = -1.75
    done = cut(TEXT.format(op=f"{op}(h)"), exact=False, **weights)
    assert done.gone["w"] == {0: [1, 2]}


@pytest.mark.parametrize(("op", "step"), zip(STEPS, [-2.0, -2.0, -1.5, 0.0, -1.0], strict=True))
def test_a_constant_on_a_step_stays(cut, weights, op, step):
    """A runtime that sums in another order may come out on the other side."""
    weights["b"][2] = step
    gone = cut(TEXT.format(op=f"{op}(h)"), exact=False, **weights).gone["w"]
    assert gone == ({0: [1, 2]} if step == 0 else {0: [1]})


@pytest.mark.parametrize("op", ["Log", "Reciprocal", "Sqrt", "Asin", "Acos"])
def test_what_is_not_finite_stays(flow, parse, weights, op):
    weights["b"] = np.array([0, 0 if op in ("Log", "Reciprocal") else 2, -2], np.float32)
    found = flow(parse(TEXT.format(op=f"{op}(h)"), **weights))
    vector = next(v for (value, a), v in found.values.items() if value.name == "a" and a == 1)
    assert np.isnan(vector[[0, 1 if op != "Sqrt" else 2]]).all()


def test_a_cast_between_floats_passes_channels(cut, weights):
    double = {**weights, "v": weights["v"].astype(np.float64)}
    text = TEXT.format(op="Cast <to = 11> (h)").replace("=> (float[", "=> (double[")
    assert cut(text, **double).gone["w"] == {0: [1, 2]}


@pytest.mark.parametrize("number", [2, 3])
def test_a_cast_to_codes_passes_channels(cut, weights, number):
    """8 bit integers carry numbers in a quantized graph; a Cast cuts off."""
    text = TEXT.format(op=f"Cast <to = {number}> (h)\nf = Cast <to = 1> (a)")
    weights["b"][2] = 3.5
    done = cut(text.replace("Conv(a", "Conv(f"), **weights)
    assert done.gone["w"] == {0: [1, 2]}


@pytest.mark.parametrize("number", [7, 9])
def test_a_cast_to_other_types_pins(cut, weights, number):
    text = TEXT.format(op=f"Cast <to = {number}> (h)\nf = Cast <to = 1> (a)")
    assert cut(text.replace("Conv(a", "Conv(f"), **weights).gone == {}


def test_the_mask_of_a_dropout_pins_what_it_masks(cut, weights):
    text = TEXT.format(op="Identity(h)\nd, m = Dropout(a)").replace("Conv(a", "Conv(d")
    assert cut(text, **weights).gone["w"] == {0: [1, 2]}
    text = text.replace("y) {", "y, bool[N,3,4,4] m) {")
    assert cut(text, **weights).gone == {}


@pytest.mark.parametrize("training", ["always", "asked for"])
def test_a_dropout_that_drops_is_no_identity(parse, flow, weights, training):
    op = "Dropout(h, half, train)"
    text, more = TEXT.format(op=op), {"half": np.float32(0.5)}
    if training == "always":
        more["train"] = np.array(True)
    else:
        text = text.replace("4,4] x", "4,4] x, bool train", 1)
    found = flow(parse(text, **weights, **more))
    assert any("Dropout" in why for (v, a), why in found.cells.pins.items() if a == 1)


ORT_ONLY = {"com.microsoft.Gelu", "com.microsoft.QuickGelu"}


@pytest.mark.parametrize("op", sorted(Unary.ops - {"Cast"} - ORT_ONLY))
@pytest.mark.parametrize("dtype", [ir.DataType.FLOAT, ir.DataType.FLOAT16])
def test_every_op_of_the_family_can_be_run_on_a_constant(op, dtype):
    x = ir.Value(name="x", type=ir.TensorType(dtype), shape=ir.Shape([2]))
    node = ir.node(op, [x])
    node.outputs[0].shape = x.shape
    ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 24})
    known = Values()
    known[x, 0] = np.array([0.2, 0.4])
    Unary(node).values(known)
    assert np.isfinite(known[node.outputs[0], 0]).all()


@pytest.mark.parametrize("op", sorted(ORT_ONLY))
def test_an_op_that_only_the_runtime_knows_calls_nothing_constant(op):
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([2]))
    domain, _, name = op.rpartition(".")
    node = ir.node(name, [x], domain=domain)
    node.outputs[0].shape = x.shape
    ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 20, domain: 1})
    known = Values()
    known[x, 0] = np.array([0.0, np.nan])
    Unary(node).values(known)
    assert np.isnan(known[node.outputs[0], 0]).all()
