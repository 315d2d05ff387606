from __future__ import annotations

import numpy as np
import pytest

TWO = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {{
    a = Conv(x, wa)
    b = Conv(x, wb)
    s = {op}
    y = Conv(s, v)}}"""


def filters(channels: int, *dead: int) -> np.ndarray:
    weights = np.ones((channels, 2, 1, 1), np.float32)
    weights[list(dead)] = 0
    return weights


def readers(channels: int) -> np.ndarray:
    return np.ones((2, channels, 1, 1), np.float32)


@pytest.mark.parametrize("op", ["Add(a, b)", "Sub(a, b)"])
def test_a_sum_is_dead_only_where_both_sides_are(cut, op):
    done = cut(TWO.format(op=op), wa=filters(4, 0, 1), wb=filters(4, 1, 2), v=readers(4))
    assert done.gone["wa"] == done.gone["wb"] == {0: [1]}


def test_a_product_is_dead_where_one_side_is(cut):
    done = cut(TWO.format(op="Mul(a, b)"), wa=filters(4, 0, 1), wb=filters(4, 1, 2), v=readers(4))
    assert done.gone["wa"] == done.gone["wb"] == {0: [0, 1, 2]}


def test_a_factor_with_another_reader_stays(cut):
    """b's channel 0 is multiplied by zero, but the second output reads it."""
    text = TWO.format(op="Mul(a, b)").replace("y) {", "y, float[N,2,4,4] z) {")
    text = text.replace("y = ", "z = Conv(b, u)\ny = ")
    done = cut(text, wa=filters(3, 0), wb=filters(3), v=readers(3), u=readers(3))
    assert done.gone == {}


def test_a_sum_that_nobody_reads_takes_both_sides_along(cut):
    v = readers(3)
    v[:, 2] = 0
    done = cut(TWO.format(op="Add(a, b)"), wa=filters(3), wb=filters(3), v=v)
    assert done.gone["wa"] == done.gone["wb"] == {0: [2]}


def test_a_residual_stream_goes_only_as_a_whole(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        a = Conv(x, wa)
        r = Relu(a)
        b = Conv(r, wb)
        s = Add(b, r)
        y = Conv(s, v)}"""
    wb = np.ones((3, 3, 1, 1), np.float32)
    wb[1:] = 0
    done = cut(text, wa=filters(3, 1), wb=wb, v=readers(3))
    assert done.gone["wa"] == {0: [1]} and done.gone["wb"] == {0: [1], 1: [1]}


ONE = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {{
    a = Conv(x, wa)
    s = {op}
    y = Conv(s, v)}}"""


def test_a_constant_operand_is_cut_with_the_channels(cut):
    c = np.array([5, 0, 7], np.float32).reshape(3, 1, 1)
    done = cut(ONE.format(op="Add(a, c)"), wa=filters(3, 1), v=readers(3), c=c)
    assert done.gone["c"] == {0: [1]} and done.gone["wa"] == {0: [1]}


def test_an_added_constant_makes_of_zero_a_constant_for_the_next_bias(cut):
    c = np.array([5, 1, 7], np.float32).reshape(3, 1, 1)
    done = cut(ONE.format(op="Add(a, c)"), wa=filters(3, 1), v=readers(3), c=c)
    assert done.gone["wa"] == {0: [1]} and done.gone["c"] == {0: [1]}
    assert done.node("Conv") is done.after.graph[0]
    assert done.after.graph[-1].inputs[2].const_value.numpy().tolist() == [1, 1]


def test_two_constants_that_cancel_are_zero_only_if_one_is_zero(cut):
    c = np.array([5, -3, 7], np.float32).reshape(3, 1, 1)
    text = ONE.format(op="Add(a, c)\nt = Relu(s)").replace("Conv(s", "Conv(t")
    assert cut(text, wa=filters(3, 1), v=readers(3), c=c).gone["wa"] == {0: [1]}


@pytest.mark.parametrize("op", ["Div(a, c)", "Mul(a, c)", "Mul(c, a)"])
def test_a_scalar_scales_zero_to_zero(cut, op):
    done = cut(ONE.format(op=op), wa=filters(3, 1), v=readers(3), c=np.float32(2))
    assert done.gone["wa"] == {0: [1]}


def test_a_zero_divisor_keeps_the_zero_channel(cut):
    with np.errstate(all="ignore"):
        assert (
            cut(ONE.format(op="Div(a, c)"), wa=filters(3, 1), v=readers(3), c=np.float32(0)).gone
            == {}
        )


def test_an_infinite_factor_keeps_the_zero_channel(cut):
    c = np.array([1, np.inf, 1], np.float32).reshape(3, 1, 1)
    with np.errstate(all="ignore"):
        assert cut(ONE.format(op="Mul(a, c)"), wa=filters(3, 1), v=readers(3), c=c).gone == {}


def test_a_gate_is_cut_with_the_channels_that_it_scales(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        a = Conv(x, wa)
        p = GlobalAveragePool(a)
        q = Conv(p, wq)
        g0 = Sigmoid(q)
        s = Mul(a, g0)
        y = Conv(s, v)}"""
    wq = np.ones((3, 3, 1, 1), np.float32)
    done = cut(text, exact=False, wa=filters(3, 1), wq=wq, v=readers(3))
    assert done.gone["wa"] == {0: [1]} and done.gone["wq"] == {0: [1], 1: [1]}


def test_a_stretched_axis_is_left_alone(cut):
    """One spatial map gates all channels: it stays, and its maker's inputs are needed."""
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        a = Conv(x, wa)
        m = Conv(x, wm)
        s = Mul(a, m)
        y = Conv(s, v)}"""
    wm = np.ones((1, 2, 1, 1), np.float32)
    done = cut(text, wa=filters(3, 1), wm=wm, v=readers(3))
    assert done.gone["wa"] == {0: [1]} and "wm" not in done.gone
