from __future__ import annotations

import numpy as np
import pytest

TEXT = """g (float[N,2,4,4] x) => (float[N,2,H,W] y) {{
    a = Conv(x, w, b)
    p = {op}
    r = Relu(p)
    y = Conv(r, v)}}"""

WEIGHTS = {
    "w": np.array([[1, 1], [0, 0], [0, 0]], np.float32).reshape(3, 2, 1, 1),
    "v": np.ones((2, 3, 1, 1), np.float32),
}
"""Channel 0 is live, 1 is zero, 2 is its bias."""

POOLS = [
    "MaxPool <kernel_shape = [2, 2]> (a)",
    "MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a)",
    "AveragePool <kernel_shape = [2, 2]> (a)",
    "AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (a)",
    "AveragePool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (a)",
    "GlobalAveragePool(a)",
    "GlobalMaxPool(a)",
    "ReduceMean(a, axes)",
    "ReduceMax(a, axes)",
    "ReduceSum(a, axes)",
]


@pytest.mark.parametrize("op", POOLS)
def test_zero_channels_pass_a_pool(cut, op):
    axes = {"axes": np.array([2, -1])} if "axes" in op else {}
    done = cut(
        TEXT.format(op=op), exact=False, b=np.array([1, 0, 3], np.float32), **WEIGHTS, **axes
    )
    assert done.gone["w"] == {0: [1]}


@pytest.mark.parametrize("op", POOLS)
def test_a_negative_constant_behind_a_pool_is_never_wrong(cut, op):
    """Whether it counts as constant or not, the answers are the same."""
    axes = {"axes": np.array([2, -1])} if "axes" in op else {}
    done = cut(
        TEXT.format(op=op), exact=False, b=np.array([1, 0, -3], np.float32), **WEIGHTS, **axes
    )
    assert done.gone["w"] == ({0: [1, 2]} if "Max" in op else {0: [1]})


def test_indices_that_are_used_pin(cut):
    text = TEXT.format(op="MaxPool <kernel_shape = [2, 2]> (a)").replace("p =", "p, i =")
    text = text.replace("y) {", "y, int64[N,3,3,3] i) {")
    assert cut(text, b=np.array([1, 0, 3], np.float32), **WEIGHTS).gone == {}


def test_a_mean_over_the_channels_pins_them(cut):
    text = """g (float[N,2,4,4] x) => (float[N,1,4,4] y) {
        a = Conv(x, w, b)
        y = ReduceMean(a, axes)}"""
    arrays = {"w": WEIGHTS["w"], "b": np.zeros(3, np.float32), "axes": np.array([1])}
    assert cut(text, exact=False, **arrays).gone == {}


def test_a_mean_that_drops_its_axes_leads_into_a_linear_layer(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2] y) {
        a = Conv(x, w)
        m = ReduceMean <keepdims = 0> (a, axes)
        y = Gemm(m, fc)}"""
    arrays = {"w": WEIGHTS["w"], "fc": np.ones((3, 2), np.float32), "axes": np.array([-1, -2])}
    assert cut(text, exact=False, **arrays).gone["fc"] == {0: [1, 2]}
