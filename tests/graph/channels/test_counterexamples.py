"""Graphs that the engine once spoiled, as small as ``scripts/fuzz_channels.py`` could make them."""

from __future__ import annotations

import numpy as np
import pytest


def whole(*shape: int, **zero: list[int]) -> np.ndarray:
    """Small whole numbers; ``rows`` and ``columns`` tell which of the first two axes' are zero."""
    array = (np.arange(np.prod(shape)) % 5 - 1).reshape(shape).astype(np.float32)
    array[zero.get("rows", [])] = 0
    array[:, zero.get("columns", [])] = 0
    return array


def test_a_product_of_zeros_and_other_constants_asks_for_no_bias(cut):
    """The constant side of a term goes since the other side is zero: nothing to make good for."""
    done = cut(
        """g (float[2,4,3] x) => (float[2,4,4] y) {
            a = MatMul(x, q)
            k = MatMul(x, w)
            b = Add(k, c)
            t = Transpose <perm = [0, 2, 1]> (b)
            y = MatMul(a, t)}""",
        q=whole(3, 3, columns=[1]),
        w=whole(3, 3, columns=[1]),
        c=np.array([1, -1, 2], np.float32),
    )
    assert done.gone["q"] == {1: [1]}


@pytest.mark.parametrize("reader", ["Add(h, h)", "Max(h, h, h)", "Mul(h, h)"])
def test_a_constant_tensor_with_itself_keeps_its_shape(cut, reader):
    """Both operands were replaced by the small constant, so that nothing stretched it."""
    text = f"""g (float[N,2,4,4] x) => (float[N,3,4,4] y) {{
        h = Conv(x, w, b)
        y = {reader}}}"""
    cut(text, w=np.zeros((3, 2, 1, 1), np.float32), b=np.array([1, 2, 3], np.float32))


def test_groups_of_quantized_weights_stay(cut):
    """Their input axis is cut group by group, which the codes were not."""
    text = """g (float[2,2,4,4] x) => (float[2,2,4,4] y) {
        h = Conv(x, w)
        q = QuantizeLinear(h, step, zero)
        d = DequantizeLinear(q, step, zero)
        v = DequantizeLinear <axis = 0> (codes, steps)
        y = Conv <group = 2> (d, v)}"""
    codes = np.arange(8).reshape(2, 4, 1, 1).astype(np.int8) - 3
    codes[:, :2] = 0
    cut(
        text,
        w=whole(8, 2, 1, 1, rows=[0, 1, 4]),
        step=np.float32(0.5),
        zero=np.uint8(128),
        codes=codes,
        steps=np.array([0.5, 0.5], np.float32),
    )


def test_a_copied_size_is_of_the_axis_at_its_own_place(cut):
    """[N, 6, 5, C] -> [N, 30, C] with C = 5: the last 0 copies the 5 before it."""
    done = cut(
        """g (float[N,2,6,5] x) => (float[N,30,2] y) {
            h = Conv(x, w)
            t = Transpose <perm = [0, 2, 3, 1]> (h)
            r = Reshape(t, s)
            y = MatMul(r, v)}""",
        w=whole(5, 2, 1, 1),
        s=np.array([0, 30, 0]),
        v=whole(5, 2, rows=[1, 3]),
    )
    assert done.gone["w"] == {0: [1, 3]} and done.constant("Reshape", 1) == [0, 30, 3]


ATTENTION = """g (float[2,2,3,3] s, float[2,2,3,4] x) => (float[2,2,3,2] y) {{
    v = MatMul(x, w)
    b = Add(v, c)
    p = Softmax {axis} (s)
    a = MatMul(p, b)
    y = MatMul(a, u)}}"""


@pytest.mark.parametrize(
    ("opset", "axis", "gone"),
    [(12, "", False), (12, "<axis = 3>", True), (13, "", True), (13, "<axis = 1>", False)],
)
def test_rows_add_up_to_one_only_where_softmax_is_along_them(cut, opset, axis, gone):
    """Before opset 13, the default is all axes but the first."""
    done = cut(
        ATTENTION.format(axis=axis),
        opset=opset,
        exact=False,
        ort=True,
        w=whole(4, 3, columns=[1]),
        c=np.array([1, 2, 3], np.float32),
        u=whole(3, 2),
    )
    assert done.gone.get("w") == ({1: [1]} if gone else None)


def test_an_axis_whose_size_only_the_output_tells_is_left_alone(cut):
    """Inference says [N, ?, 4] of the product's input, and the file [N, 9, 2] of its output."""
    done = cut(
        """g (float[N,4,3,6] x) => (float[N,9,2] y, float[N,4,3,2] z) {
            k = MatMul(x, a)
            z = MatMul(k, b)
            shape = Shape(x)
            n = Gather(shape, first)
            s = Concat <axis = 0> (n, rest)
            r = Reshape(x, s)
            h = Slice(r, nine, end, last)
            t = Transpose <perm = [0, 2, 1]> (h)
            y = MatMul(t, w)}""",
        first=np.array([0]),
        rest=np.array([4, -1]),
        nine=np.array([9]),
        end=np.array([18]),
        last=np.array([-1]),
        w=whole(4, 2, rows=[1]),
        a=whole(6, 3, columns=[1]),
        b=whole(3, 2),
    )
    assert done.gone.keys() == {"a", "b", "k"}
