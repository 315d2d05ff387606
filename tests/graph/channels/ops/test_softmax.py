from __future__ import annotations

import numpy as np
import pytest

TEXT = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {{
    h = Conv(x, w)
    s = {op}
    y = Conv(s, v)}}"""
W = np.array([[1, 1], [0, 0], [2, 1]], np.float32).reshape(3, 2, 1, 1)
V = np.ones((2, 3, 1, 1), np.float32)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_a_zero_channel_counts_in_the_sum_of_exponentials(cut, op):
    assert cut(TEXT.format(op=f"{op} <axis = 1> (h)"), exact=False, w=W, v=V).gone == {}


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [2, -1, None])
def test_channels_pass_where_another_axis_adds_up_to_one(cut, op, axis):
    attribute = "" if axis is None else f"<axis = {axis}>"
    v = V.copy()
    v[:, 2] = 0
    done = cut(TEXT.format(op=f"{op} {attribute} (h)"), exact=False, w=W, v=v)
    assert done.gone["w"] == {0: [2]}


def test_before_opset_13_all_axes_are_flattened(cut):
    v = V.copy()
    v[:, 2] = 0
    assert cut(TEXT.format(op="Softmax <axis = 2> (h)"), opset=12, exact=False, w=W, v=v).gone == {}
