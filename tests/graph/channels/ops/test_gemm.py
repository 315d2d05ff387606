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


def test_a_bias_keeps_a_unit_without_weights(cut):
    assert cut(TEXT.format(op="Gemm(x, w, b)"), b=np.ones(3, np.float32), **weights(1)).gone == {}


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
    assert cut(TEXT.format(op="Gemm <beta = -1.0> (x, w, b)"), b=b, **weights(1)).gone == {}
    assert cut(TEXT.format(op="Gemm <beta = 2.0> (x, w, b)"), b=b, **weights(1)).gone["b"] == {
        0: [1]
    }


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


def test_a_transposed_input_is_left_alone(cut):
    text = """g (float[4,3] x) => (float[3,2] y) {
        h = Gemm <transA = 1> (x, w)
        y = Gemm(h, v)}"""
    done = cut(text, **weights(1))
    assert done.gone == {}


def test_a_product_of_two_computed_matrices_is_left_alone(cut):
    text = """g (float[3,4] x) => (float[3,3] y) {
        h = MatMul(x, w)
        t = Transpose <perm = [1, 0]> (h)
        y = MatMul(h, t)}"""
    assert cut(text, w=weights(1)["w"]).gone == {}
