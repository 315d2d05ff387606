from __future__ import annotations

import numpy as np
import pytest

TEXT = """g (float[N,2,4,4] x) => (float[N,2,H,W] y) {{
    a = Conv(x, w, b)
    p = {op}
    y = Conv(p, v)}}"""

WEIGHTS = {
    "w": np.array([[1, 1], [0, 0], [0, 0], [0, 0]], np.float32).reshape(4, 2, 1, 1),
    "v": np.ones((2, 4, 1, 1), np.float32),
}
"""Channel 0 is live, 1 is zero, 2 and 3 are their biases."""


KEEP = [
    "MaxPool <kernel_shape = [2, 2]> (a)",
    "MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a)",
    "MaxPool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (a)",
    'MaxPool <kernel_shape = [3, 3], auto_pad = "SAME_UPPER"> (a)',
    "AveragePool <kernel_shape = [2, 2]> (a)",
    "AveragePool <kernel_shape = [2, 2], count_include_pad = 1> (a)",
    "AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a)",
    'AveragePool <kernel_shape = [3, 3], auto_pad = "SAME_LOWER"> (a)',
    'AveragePool <kernel_shape = [2, 2], auto_pad = "VALID", count_include_pad = 1> (a)',
    "GlobalAveragePool(a)",
    "GlobalMaxPool(a)",
]
DILUTED = [
    "AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (a)",
    "AveragePool <kernel_shape = [3, 3], pads = [0, 0, 1, 2], count_include_pad = 1> (a)",
    "AveragePool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (a)",
    """AveragePool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1,
                    count_include_pad = 1> (a)""",
]
OTHER = [
    "LpPool <kernel_shape = [2, 2]> (a)",
    "LpPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a)",
    "GlobalLpPool(a)",
]
BIAS = np.array([1, 0, 2, -4], np.float32)


@pytest.mark.parametrize("op", KEEP)
def test_constants_pass_where_every_window_sees_them_alone(cut, op):
    done = cut(TEXT.format(op=op), exact=False, ort=True, b=BIAS, **WEIGHTS)
    assert done.gone["w"] == {0: [1, 2, 3]} and done.gone["v"] == {1: [1, 2, 3]}
    assert done.after.graph[-1].inputs[2].const_value.numpy().tolist() == [-2, -2]


@pytest.mark.parametrize("op", DILUTED)
def test_constants_diluted_at_the_border_are_merged_but_not_folded(cut, op):
    done = cut(TEXT.format(op=op), exact=False, ort=True, b=BIAS, **WEIGHTS)
    assert done.gone["w"] == {0: [1, 2]} and len(done.after.graph[-1].inputs) == 2


@pytest.mark.parametrize("op", DILUTED)
def test_what_is_diluted_is_live_for_all_but_sums(cut, op):
    """Relu of a pattern is no multiple of another's."""
    text = TEXT.format(op=op).replace("y = Conv(p", "r = Relu(p)\ny = Conv(r")
    done = cut(text, exact=False, ort=True, b=BIAS, **WEIGHTS)
    assert done.gone["w"] == {0: [1]}


@pytest.mark.parametrize("op", DILUTED)
def test_a_pattern_is_not_added_as_if_it_were_a_number(cut, op):
    text = TEXT.format(op=op).replace("y = Conv(p", "q = Conv(x, u)\nr = Add(p, s)\ny = Conv(r")
    text = text.replace("r = Add(p, s)", f"s = {op.replace('(a)', '(q)')}\nr = Add(p, s)")
    weights = {"w": np.zeros((2, 2, 1, 1), np.float32), "v": np.ones((2, 2, 1, 1), np.float32)}
    u = np.ones((2, 2, 1, 1), np.float32)
    done = cut(text, exact=False, ort=True, b=np.array([2, 3], np.float32), u=u, **weights)
    assert done.gone == {} and "Add" in done.ops


@pytest.mark.parametrize("op", OTHER)
def test_a_norm_of_windows_keeps_zero_alone(cut, op):
    done = cut(TEXT.format(op=op), exact=False, ort=True, b=BIAS, **WEIGHTS)
    assert done.gone["w"] == {0: [1]}


@pytest.mark.parametrize("op", KEEP + DILUTED + OTHER)
def test_a_channel_that_nothing_reads_leaves_before_its_pool(cut, op):
    v = WEIGHTS["v"].copy()
    v[:, 1] = 0
    done = cut(TEXT.format(op=op), exact=False, ort=True, b=BIAS, w=np.ones_like(WEIGHTS["w"]), v=v)
    assert done.gone["w"] == {0: [1]}


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_windows_that_see_nothing_but_padding_hold_no_constant(cut, op):
    """Two taps, three apart, around two pixels."""
    text = TEXT.format(op=f"{op} <kernel_shape = [2,2], dilations = [3,3], pads = [1,1,1,1]> (a)")
    text = text.replace("2,4,4] x", "2,2,2] x")
    done = cut(text, opset=19, exact=False, ort=True, b=BIAS, **WEIGHTS)
    assert done.gone == {}


def test_indices_that_are_used_pin(cut):
    text = TEXT.format(op="MaxPool <kernel_shape = [2, 2]> (a)").replace("p =", "p, i =")
    text = text.replace("y) {", "y, int64[N,4,3,3] i) {")
    assert cut(text, b=BIAS, **WEIGHTS).gone == {}


def test_indices_that_nobody_uses_do_not_pin(cut):
    text = TEXT.format(op="MaxPool <kernel_shape = [2, 2]> (a)").replace("p =", "p, i =")
    assert cut(text, b=BIAS, **WEIGHTS).gone["w"] == {0: [1, 2, 3]}
