from __future__ import annotations

import numpy as np

FILTERS = np.array([[1, 1], [0, 0], [2, 1]], np.float32).reshape(3, 2, 1, 1)


def test_channels_move_with_their_axis(cut):
    text = """g (float[N,2,4,5] x) => (float[N,4,5,2] y) {
        a = Conv(x, w)
        t = Transpose <perm = [0, 2, 3, 1]> (a)
        y = MatMul(t, m)}"""
    done = cut(text, w=FILTERS, m=np.ones((3, 2), np.float32))
    assert done.gone["t"] == {3: [1]} and done.gone["m"] == {0: [1]}


def test_without_an_order_all_axes_are_reversed(cut):
    text = """g (float[4,5] x) => (float[2,4] y) {
        a = MatMul(x, w)
        t = Transpose(a)
        y = MatMul(u, t)}"""
    w = np.ones((5, 3), np.float32)
    w[:, 0] = 0
    assert cut(text, w=w, u=np.ones((2, 3), np.float32)).gone == {}
    again = text.replace("y = MatMul(u, t)", "b = Transpose(t)\ny = MatMul(b, u)")
    done = cut(again.replace("float[2,4] y", "float[4,2] y"), w=w, u=np.ones((3, 2), np.float32))
    assert done.gone["t"] == {0: [0]} and done.gone["u"] == {0: [0]}
