from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.graph.check import random_feeds
from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels
from deploypipe.graph.passes.merge_collinear import MergeCollinear, multiples

TEXT = """g (float[N,3,6,6] x) => (float[N,2,6,6] y) {
    c = Conv(x, w, b)
    f = Relu(c)
    y = Conv <pads = [1,1,1,1]> (f, v)}"""


def layer(*shape: int, seed: int = 0) -> np.ndarray:
    """Small whole numbers without a zero."""
    rng = np.random.default_rng(seed)
    return (rng.integers(1, 4, shape) * rng.choice([-1, 1], shape)).astype(np.float32)


def alike(factor: float = 1.0) -> dict[str, np.ndarray]:
    """Row 3 of w and b is a multiple of row 1."""
    w, b = layer(5, 3, 1, 1), layer(5, seed=1)
    w[3], b[3] = factor * w[1], factor * b[1]
    return {"w": w, "b": b, "v": layer(2, 5, 3, 3, seed=2)}


@pytest.fixture
def merged(parse, evaluate):
    """The model after the pass and drop-dead-channels, equal to the last bit after both."""

    def run(text: str, opset: int = 20, **weights: np.ndarray) -> ir.Model:
        before, after = parse(text, opset, **weights), parse(text, opset, **weights)
        outcome = MergeCollinear()(after)
        assert outcome.modified and outcome.changes
        feeds = {k: np.round(2 * x) for k, x in random_feeds(before, batch=2).items()}
        expected = evaluate(before, feeds)
        assert not MergeCollinear()(after.clone()).modified
        for model in (after, dropped(after.clone())):
            for name, array in evaluate(model, feeds).items():
                np.testing.assert_array_equal(array, expected[name])
        return dropped(after)

    return run


def dropped(model: ir.Model) -> ir.Model:
    DropDeadChannels(prove=False)(model)
    return model


def rows(model: ir.Model, name: str = "w", axis: int = 0) -> int:
    return int(model.graph.initializers[name].shape[axis])


@pytest.mark.parametrize("factor", [1, 2, 0.5, 3])
def test_a_multiple_is_read_from_the_other(merged, factor):
    model = merged(TEXT, **alike(factor))
    assert rows(model) == 4 and rows(model, "v", 1) == 4


@pytest.mark.parametrize(
    "op",
    [
        "LeakyRelu <alpha = 0.5> (c)",
        "MaxPool <kernel_shape = [3,3], pads = [1,1,1,1]> (c)",
        "AveragePool <kernel_shape = [2,2], pads = [1,1,0,0], count_include_pad = 1> (c)",
        "Identity(c)",
        "Dropout(c)",
        "Abs(c)",
        "Add(c, c)",
        "PRelu(c, slope)",
    ],
)
def test_ops_that_scale_pass_multiples_on(merged, op):
    slope = {"slope": np.full((5, 1, 1), 0.5, np.float32)} if "slope" in op else {}
    assert rows(merged(TEXT.replace("Relu(c)", op), **alike(2), **slope)) == 4


@pytest.mark.parametrize("op", ["Sigmoid(c)", "HardSwish(c)", "Clip(c, low, high)", "Mul(c, c)"])
def test_other_ops_pass_equal_channels_on(merged, op):
    ends = {"low": np.float32(0), "high": np.float32(6)} if "Clip" in op else {}
    text = TEXT.replace("Relu(c)", op)
    weights = alike()
    if op in ("Sigmoid(c)", "HardSwish(c)"):
        weights["v"][:, 0], weights["v"][:, 2], weights["v"][:, 4] = 0, 0, 0
        weights["v"][...] = 0
        weights["v"][0, 1, 1, 1] = weights["v"][0, 3, 1, 1] = 1  # exact: twice one number
        assert rows(merged(text, **weights, **ends)) == 1
    else:
        assert rows(merged(text, **weights, **ends)) == 4


def test_a_flattened_tensor_moves_all_its_columns(merged):
    text = """g (float[N,3,2,2] x) => (float[N,2] y) {
        c = Conv(x, w, b)
        f = Relu(c)
        l = Flatten(f)
        y = Gemm <transB = 1> (l, v)}"""
    model = merged(text, **{**alike(2), "v": layer(2, 20)})
    assert rows(model) == 4 and rows(model, "v", 1) == 16


def test_matmul_with_an_added_bias(merged):
    text = """g (float[N,7,3] x) => (float[N,7,2] y) {
        c = MatMul(x, w)
        d = Add(c, b)
        f = Relu(d)
        y = MatMul(f, v)}"""
    weights = {"w": alike(2)["w"][..., 0, 0].T.copy(), "b": alike(2)["b"], "v": layer(5, 2)}
    assert rows(merged(text, **weights), axis=1) == 4


def test_a_transposed_convolution_and_a_gemm(merged):
    text = """g (float[N,3,2,2] x) => (float[N,2] y) {
        c = ConvTranspose(x, w, b)
        f = Relu(c)
        p = GlobalAveragePool(f)
        l = Flatten(p)
        y = Gemm(l, v)}"""
    weights = alike(2)
    weights["w"] = np.swapaxes(weights["w"], 0, 1).copy()
    assert rows(merged(text, **{**weights, "v": layer(5, 2)}), axis=1) == 4


def test_concat_split_and_gather_move_channels(merged):
    text = TEXT.replace(
        "y = Conv <pads = [1,1,1,1]> (f, v)",
        """h, t = Split <axis = 1> (f, sizes)
        g2 = Gather <axis = 1> (f, order)
        k = Concat <axis = 1> (t, h, g2)
        y = Conv <pads = [1,1,1,1]> (k, v)""",
    )
    given = {"sizes": np.array([2, 3]), "order": np.array([4, 3, 1])}
    assert rows(merged(text, **{**alike(2), **given, "v": layer(2, 8, 3, 3)})) == 4


TWO = TEXT.replace("f = Relu(c)", "d = Conv(x, u)\ns = Add(c, d)\nf = Relu(s)")


def test_a_sum_of_streams_that_scale_alike(merged):
    u = layer(5, 3, 1, 1, seed=5)
    u[3] = 2 * u[1]
    model = merged(TWO, **alike(2), u=u)
    assert rows(model) == rows(model, "u") == 4


def test_rows_that_become_alike_follow(merged):
    text = TEXT.replace("y = Conv", "m = Conv(f, u)\nn = Relu(m)\ny = Conv").replace(
        "(f, v)", "(n, v)"
    )
    u = layer(5, 5, 1, 1, seed=5)
    u[2] = u[0]
    u[2, 1], u[2, 3] = u[0, 1] + 1, u[0, 3] - 1  # the same once 3 is read from 1
    model = merged(text, **alike(), u=u)
    assert rows(model) == rows(model, "u") == 4


def test_what_is_alike_before_and_behind_an_op_is_kept_apart(merged):
    text = TEXT.replace("y = Conv", "k = Concat <axis = 1> (c, f)\ny = Conv").replace(
        "(f, v)", "(k, v)"
    )
    assert rows(merged(text, **{**alike(2), "v": layer(2, 10, 3, 3)})) == 4


def test_columns_of_one_channel_are_kept_apart(merged):
    text = """g (float[N,3,4,1] x) => (float[N,2,P,1] y) {
        c = Conv(x, w, b)
        r = Reshape(c, shape)
        y = Conv(r, v)}"""
    shape = np.array([-1, 20, 1, 1])
    model = merged(text, **{**alike(2), "shape": shape, "v": layer(2, 20, 1, 1)})
    assert rows(model) == 4 and rows(model, "v", 1) == 16


def test_channels_folded_into_heads_are_one(merged):
    text = """g (float[N,7,3] x) => (float[N,2,7,2] y) {
        c = MatMul(x, w)
        r = Reshape(c, shape)
        t = Transpose <perm = [0,2,1,3]> (r)
        y = MatMul(t, v)}"""
    w = layer(3, 6, seed=4)
    w[:, 1], w[:, 4] = 2 * w[:, 0], 2 * w[:, 3]
    model = merged(text, w=w, shape=np.array([0, 7, 2, 3]), v=layer(3, 2))
    assert rows(model, "v") == 2


def test_every_reader_takes_over(merged):
    text = TEXT.replace("y) {", "y, float[N,1,6,6] z) {\n").replace("y = ", "z = Conv(f, t)\ny = ")
    assert rows(merged(text, **alike(), t=layer(1, 5, 1, 1))) == 4


def test_what_others_read_of_shared_weights_stays(merged, parse):
    text = TEXT.replace("6] x)", "6] x, float[N,5,6,6] q)").replace("y)", "y, float[N,2,4,4] z)")
    weights = alike()
    model = merged(text.replace("y = ", "z = Conv(q, v)\ny = "), **weights)
    assert rows(model) == 4
    np.testing.assert_array_equal(model.graph.initializers["v"].const_value.numpy(), weights["v"])


def left_alone(parse, text: str, **weights: np.ndarray) -> list[str]:
    """The refusals of a pass that changed nothing."""
    model = parse(text, **weights)
    outcome = MergeCollinear()(model)
    assert not outcome.modified and not outcome.changes
    for name, array in weights.items():
        np.testing.assert_array_equal(model.graph.initializers[name].const_value.numpy(), array)
    return outcome.refusals


@pytest.mark.parametrize("factor", [-1, -2])
def test_negative_multiples_are_left_alone(parse, factor):
    assert left_alone(parse, TEXT, **alike(factor)) == []


def test_another_bias_is_left_alone(parse):
    weights = alike()
    weights["b"][3] += 0.5
    assert left_alone(parse, TEXT, **weights) == []


def test_rows_that_nearly_fit_are_left_alone(parse):
    weights = alike()
    weights["w"][3, 0] *= np.float32(1 + 1e-5)
    assert left_alone(parse, TEXT, **weights) == []


def test_constant_rows_are_left_to_others(parse):
    weights = alike()
    weights["w"][[1, 3]] = 0
    assert left_alone(parse, TEXT, **weights) == []


APART = "Conv 'c': 1 channels like others stay: Conv 'y' reads them apart"


@pytest.mark.parametrize("op", ["Sigmoid(c)", "Clip(c, low)", "Mul(c, c)", "Add(c, one)"])
def test_multiples_do_not_pass_what_does_not_scale(parse, op):
    more = {"low": np.float32(-1)} if "low" in op else {"one": np.float32(1)} if "one" in op else {}
    assert left_alone(parse, TEXT.replace("Relu(c)", op), **alike(2), **more) == [APART]


def test_slopes_that_differ_are_told(parse):
    slope = np.array([1, 1, 1, 2, 1], np.float32).reshape(5, 1, 1) / 4
    told = left_alone(parse, TEXT.replace("Relu(c)", "PRelu(c, slope)"), **alike(2), slope=slope)
    assert told == [APART]


def test_streams_that_scale_apart_are_told(parse):
    u = layer(5, 3, 1, 1, seed=5)
    u[3] = 3 * u[1]
    assert APART in left_alone(parse, TWO, **alike(2), u=u)


def test_a_stream_of_its_own_is_told(parse):
    assert left_alone(parse, TWO, **alike(), u=layer(5, 3, 1, 1, seed=5)) == [APART]


def test_a_graph_output_is_told(parse):
    text = TEXT.replace("y) {", "y, float[N,5,6,6] f) {")
    why = "Conv 'c': 1 channels like others stay: 'f' is a graph output"
    assert left_alone(parse, text, **alike()) == [why]


def test_a_grouped_reader_is_told(parse):
    text = TEXT.replace("y = Conv <", "y = Conv <group = 5, ").replace("[N,2,6,6] y", "[N,5,6,6] y")
    weights = {**alike(), "v": layer(5, 1, 3, 3)}
    assert left_alone(parse, text, **weights)[0].startswith("Conv 'c': 1 channels like others stay")


def test_rows_of_a_grouped_convolution_are_left_alone(parse):
    text = TEXT.replace("c = Conv(", "c = Conv <group = 3> (")
    w = np.ones((6, 1, 1, 1), np.float32)
    weights = {"w": w, "b": np.ones(6, np.float32), "v": layer(2, 6, 3, 3)}
    assert left_alone(parse, text, **weights) == []


def test_a_softmax_over_channels_is_told(parse):
    text = TEXT.replace("Relu(c)", "Softmax <axis = 1> (c)")
    assert left_alone(parse, text, **alike())[0].startswith("Conv 'c': 1 channels like others stay")


def test_multiples_are_found_among_many():
    given = np.random.default_rng(0).normal(size=(50, 9)).astype(np.float32)
    given[40], given[41], given[42] = given[3] * np.float32(0.1), -given[3], 0
    place, factors = multiples(given, 1e-6)
    assert place[40] == 3 and factors[40] == pytest.approx(0.1, rel=1e-6)
    assert np.delete(place, 40).tolist() == np.delete(np.arange(50), 40).tolist()


def test_a_tolerance_that_is_none_is_refused():
    with pytest.raises(ValueError, match="tolerance must be in"):
        MergeCollinear(1)
