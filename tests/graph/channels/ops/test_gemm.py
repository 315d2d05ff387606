from __future__ import annotations

import numpy as np
import pytest

TEXT = """g (float[N,4] x) => (float[N,2] y) {{
    h = {op}
    r = Relu(h)
    y = Gemm(r, v)}}"""


def weights(*dead: int) -> dict[str, np.ndarray]:
    w = np.ones((4, 3), np.float32)
    w[:, list(dead)] = 0
    return {"w": w, "v": np.ones((3, 2), np.float32)}


def test_a_dead_unit_leaves_a_linear_layer(cut):
    done = cut(TEXT.format(op="Gemm(x, w)"), **weights(1))
    assert done.gone == {"w": {1: [1]}, "h": {1: [1]}, "r": {1: [1]}, "v": {0: [1]}}


def test_a_dead_unit_leaves_transposed_weights(cut):
    arrays = weights(1)
    done = cut(TEXT.format(op="Gemm <transB = 1> (x, w)"), **{**arrays, "w": arrays["w"].T.copy()})
    assert done.gone["w"] == {0: [1]}


def test_a_dead_unit_leaves_a_product_of_matrices(cut):
    text = """g (float[N,3,4] x) => (float[N,3,2] y) {
        h = MatMul(x, w)
        y = MatMul(h, v)}"""
    assert cut(text, **weights(0)).gone["v"] == {0: [0]}


def test_a_bias_is_cut_with_the_units(cut):
    done = cut(TEXT.format(op="Gemm(x, w, b)"), b=np.array([1, 0, 3], np.float32), **weights(1))
    assert done.gone["b"] == {0: [1]}


def test_a_unit_that_is_its_bias_goes_into_the_next(cut):
    done = cut(TEXT.format(op="Gemm(x, w, b)"), b=np.full(3, 5, np.float32), **weights(1))
    assert done.gone["w"] == {1: [1]} and done.gone["v"] == {0: [1]}
    assert done.after.graph[-1].inputs[2].const_value.numpy().tolist() == [5, 5]


@pytest.mark.parametrize("bias", [np.float32(-1), np.full(1, -1, np.float32)])
def test_a_bias_of_one_number_is_stretched_and_stays(cut, bias):
    done = cut(TEXT.format(op="Gemm(x, w, b)"), b=bias, **weights(1))
    assert done.gone["w"] == {1: [1]} and "b" not in done.gone


def test_a_bias_per_row_is_no_bias_per_unit(cut):
    """[3, 1] on three rows has as many numbers as there are units."""
    text = TEXT.format(op="Gemm(x, w, b)").replace("[N,", "[3,")
    done = cut(text, b=np.array([[1], [0], [2]], np.float32), **weights(1))
    assert done.gone == {}


def test_beta_scales_the_bias(cut):
    b = np.array([1, -2, 3], np.float32)
    turned = cut(TEXT.format(op="Gemm <beta = -1.0> (x, w, b)"), b=b, **weights(1))
    assert turned.gone["b"] == {0: [1]}
    assert turned.after.graph[-1].inputs[2].const_value.numpy().tolist() == [2, 2]
    done = cut(TEXT.format(op="Gemm <beta = 2.0> (x, w, b)"), b=b, **weights(1))
    assert done.gone["b"] == {0: [1]} and len(done.after.graph[-1].inputs) == 2


def test_a_computed_addend_is_needed(cut):
    text = """g (float[3,4] x) => (float[3,2] y) {
        a = Gemm(x, u)
        c = Gemm(a, u2)
        h = Gemm(x, w, c)
        y = Gemm(h, v)}"""
    u, u2 = np.ones((4, 5), np.float32), np.ones((5, 3), np.float32)
    assert cut(text, u=u, u2=u2, **weights()).gone == {}
    v = np.ones((3, 2), np.float32)
    v[2] = 0
    done = cut(text, u=u, u2=u2, w=weights()["w"], v=v)
    assert done.gone["u2"] == {1: [2]} and done.gone["w"] == {1: [2]} and "u" not in done.gone


def test_units_of_a_transposed_input_are_cut_too(cut):
    text = """g (float[4,3] x) => (float[3,2] y) {
        h = Gemm <transA = 1> (x, w)
        y = Gemm(h, v)}"""
    done = cut(text, **weights(1))
    assert done.gone["w"] == {1: [1]} and done.gone["v"] == {0: [1]}


def test_the_rows_of_a_transposed_input_are_its_units(cut):
    """x is [units, rows]: the unit that v ignores is a row of the product before."""
    text = """g (float[4,5] x) => (float[5,2] y) {
        h = MatMul(u, x)
        y = Gemm <transA = 1> (h, v)}"""
    v = np.ones((3, 2), np.float32)
    v[1] = 0
    done = cut(text, u=np.ones((3, 4), np.float32), v=v)
    assert done.gone["u"] == {0: [1]} and done.gone["v"] == {0: [1]}


SCALED = """g (float[N,4] x) => (float[N,2] y) {{
    h = Gemm(x, w, b)
    y = Gemm <{attributes}> ({inputs})}}"""


@pytest.mark.parametrize("attributes", ["alpha = 0.5", "beta = 4.0", "alpha = 2.0, beta = -2.0"])
@pytest.mark.parametrize("inputs", ["h, v", "h, v, c"])
def test_a_constant_is_scaled_like_the_product_and_not_like_the_bias(cut, attributes, inputs):
    text = SCALED.format(attributes=attributes, inputs=inputs)
    c = {"c": np.array([3, 8], np.float32)} if "c" in inputs else {}
    done = cut(text, b=np.array([0, 6, 1], np.float32), **weights(1), **c)
    assert done.gone["w"] == {1: [1]} and "h: 1 constant channels into the bias" in done.changes


def test_a_bias_that_counts_for_nothing_takes_nothing(cut):
    """With beta = 0 the constants can only be merged."""
    text = SCALED.format(attributes="beta = 0.0", inputs="h, v, c")
    b, c = np.array([0, 6, 3], np.float32), np.array([3, 8], np.float32)
    done = cut(text, b=b, c=c, **weights(1, 2))
    assert done.gone["w"] == {1: [2]} and "h: 1 constant channels into one of them" in done.changes


STRETCHED = """g (float[3,4] x) => (float[3,2] y) {
    h = Gemm(x, w, b)
    r = Gemm(h, v, c)
    s = Relu(r)
    t = Add(s, k)
    y = Gemm(t, u)}"""


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (3, 1), (4,), (1, 4), (3, 4)])
def test_a_bias_of_any_shape_takes_constants_while_outputs_go(cut, shape):
    v = np.arange(12, dtype=np.float32).reshape(3, 4)
    u = np.ones((4, 2), np.float32)
    u[2] = 0
    b, k = np.array([0, 5, 1], np.float32), np.ones(4, np.float32)
    c = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 1
    done = cut(STRETCHED, w=weights(1)["w"], b=b, v=v, c=c, k=k, u=u)
    assert done.gone["v"] == {0: [1], 1: [2]}


def test_a_shared_scalar_bias_is_left_to_the_other(cut):
    b, c = np.array([0, 5, 1], np.float32), np.float32(7)
    v, u = np.ones((3, 4), np.float32), np.ones((4, 2), np.float32)
    done = cut(STRETCHED.replace("Add(s, k)", "Add(s, c)"), w=weights(1)["w"], b=b, v=v, c=c, u=u)
    assert done.gone["v"] == {0: [1]} and done.array("c").tolist() == 7


def test_a_bias_is_given_only_if_there_is_something_in_it(cut):
    """The constant 5 meets weights only for an output that goes."""
    text = "g (float[N,4] x) => (float[N,2] y) {h = Gemm(x, w, b)\nr = Gemm(h, v)\ny = Gemm(r, u)}"
    v, u = np.ones((3, 3), np.float32), np.ones((3, 2), np.float32)
    v[1, :2], u[2] = 0, 0
    done = cut(text, b=np.array([0, 5, 1], np.float32), w=weights(1)["w"], v=v, u=u)
    assert done.gone["v"] == {0: [1], 1: [2]}
    assert [len(node.inputs) for node in done.after.graph] == [3, 2, 2]


def test_half_precision_weights_take_constants(cut):
    text = SCALED.format(attributes="alpha = 1.0", inputs="h, v").replace("float[", "float16[")
    arrays = {name: array.astype(np.float16) for name, array in weights(1).items()}
    done = cut(text, b=np.array([0, 6, 1], np.float16), **arrays)
    assert done.after.graph[-1].inputs[2].const_value.numpy().dtype == np.float16
