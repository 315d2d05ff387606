from __future__ import annotations

import numpy as np
import pytest

TEXT = """g (float[N,2,4,4] x) => (float[N,2,A,B] y) {{
    a = Conv(x, w, b)
    p = {op} (a, axes)
    y = Conv(p, v)}}"""
W = np.array([[1, 1], [0, 0], [0, 0], [0, 0]], np.float32).reshape(4, 2, 1, 1)
V = np.ones((2, 4, 1, 1), np.float32)
B = np.array([1, 0, 2, -4], np.float32)
"""Channel 0 is live, 1 is zero, 2 and 3 are their biases."""

SUMS = ["ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare"]
KEEP = ["ReduceMean", "ReduceMax", "ReduceMin"]


@pytest.mark.parametrize("op", KEEP)
def test_constants_pass_where_a_reduction_gives_them_back(cut, op):
    done = cut(TEXT.format(op=op), exact=False, w=W, v=V, b=B, axes=np.array([2, -1]))
    assert done.gone["w"] == {0: [1, 2, 3]}
    assert done.after.graph[-1].inputs[2].const_value.numpy().tolist() == [-2, -2]


@pytest.mark.parametrize("op", SUMS)
def test_zero_alone_passes_a_sum_over_the_pixels(cut, op):
    done = cut(TEXT.format(op=op), exact=False, w=W, v=V, b=B, axes=np.array([2, -1]))
    assert done.gone["w"] == {0: [1]}


OVER = """g (float[N,2,4,4] x) => (float[N,1,4,4] y) {{
    a = Conv(x, w, b)
    y = {op} (a, axes)}}"""


@pytest.mark.parametrize("op", SUMS)
def test_zero_goes_from_a_sum_over_the_channels_and_constants_stay(cut, op):
    done = cut(OVER.format(op=op), exact=False, w=W, b=B, axes=np.array([1]))
    assert done.gone["w"] == {0: [1]}


@pytest.mark.parametrize("op", KEEP)
def test_nothing_goes_where_the_number_or_the_sign_of_channels_counts(cut, op):
    assert cut(OVER.format(op=op), exact=False, w=W, b=B, axes=np.array([1])).gone == {}


DYNAMIC = [
    ("float[N,2,4,4] x) => (float[N] y)", "<keepdims = 0>", [1, 2, 3]),
    ("float[N,2,H,W] x) => (float[N,1,H,W] y)", "", [1]),
    ("float[N,2,H,W] x) => (float[N,H,W] y)", "<keepdims = 0>", [1]),
]


@pytest.mark.parametrize(("types", "keep", "axes"), DYNAMIC)
def test_a_sum_whose_result_has_no_known_size_is_needed(cut, types, keep, axes):
    text = f"g ({types} {{a = Conv(x, w, b)\ny = ReduceSum {keep} (a, axes)}}"
    text = text.replace("W", "H")
    done = cut(text, w=W, b=B, axes=np.array(axes))
    assert done.gone["w"] == {0: [1]}


def test_a_sum_that_nobody_reads_needs_nothing(cut):
    v = V.copy()
    v[:, 3] = 0
    done = cut(TEXT.format(op="ReduceL1"), w=np.ones_like(W), v=v, b=B, axes=np.array([2, 3]))
    assert done.gone["w"] == {0: [3]}


def test_all_of_a_sum_can_be_zero(cut):
    text = OVER.format(op="ReduceSum").replace("y =", "s =").replace("}", "\ny = Conv(s, u)}")
    done = cut(text, w=np.zeros_like(W), b=np.zeros_like(B), u=np.ones((1, 1, 1, 1), np.float32),
               axes=np.array([1]))  # fmt: skip
    assert done.gone["w"] == {0: [1, 2, 3]}


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_the_axes_are_read_wherever_an_opset_keeps_them(cut, opset):
    attribute = opset == 11
    call = "ReduceSum <axes = [2, 3], keepdims = 0> (a)" if attribute else ""
    text = """g (float[N,2,4,4] x) => (float[N,2] y) {
        a = Conv(x, w)
        m = CALL
        y = Gemm(m, fc)}""".replace("CALL", call or "ReduceSum <keepdims = 0> (a, axes)")
    arrays = {} if attribute else {"axes": np.array([-1, -2])}
    done = cut(text, opset=opset, w=W, fc=np.ones((4, 2), np.float32), **arrays)
    assert done.gone["fc"] == {0: [1, 2, 3]}


def test_a_mean_that_drops_its_axes_leads_into_a_linear_layer(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2] y) {
        a = Conv(x, w)
        m = ReduceMean <keepdims = 0> (a, axes)
        y = Gemm(m, fc)}"""
    fc = np.ones((4, 2), np.float32)
    assert cut(text, exact=False, w=W, fc=fc, axes=np.array([-1, -2])).gone["fc"] == {0: [1, 2, 3]}


@pytest.mark.parametrize("call", ["ReduceSum(a)", "ReduceSum(a, q)"])
def test_axes_that_are_all_or_computed_pin(cut, call):
    text = f"""g (float[2,2,4,4] x, int64[1] q) => (float[A,B,C,D] y) {{
        a = Conv(x, w)
        y = {call}}}"""
    assert cut(text, w=W).gone == {}
