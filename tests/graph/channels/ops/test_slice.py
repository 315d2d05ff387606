from __future__ import annotations

import numpy as np
import pytest

TEXT = """g (float[N,2,4,4] x) => (float[N,2,H,W] y) {
    a = Conv(x, w)
    s = Slice(a, starts, ends, axes, steps)
    y = Conv(s, v)}"""
FILTERS = np.array([[1, 1], [0, 0], [2, 1]], np.float32).reshape(3, 2, 1, 1)


def window(axis: int, start: int = 0, end: int = 9, step: int = 1) -> dict[str, np.ndarray]:
    numbers = {"starts": start, "ends": end, "axes": axis, "steps": step}
    return {name: np.array([number]) for name, number in numbers.items()}


@pytest.mark.parametrize("axis", [2, -1])
def test_channels_pass_where_another_axis_is_cut(cut, axis):
    v = np.ones((2, 3, 1, 1), np.float32)
    assert cut(TEXT, w=FILTERS, v=v, **window(axis, step=2)).gone["w"] == {0: [1]}


@pytest.mark.parametrize("axis", [1, -3])
def test_a_sliced_channel_axis_stays_whole(cut, axis):
    v = np.ones((2, 2, 1, 1), np.float32)
    assert cut(TEXT, w=FILTERS, v=v, **window(axis, start=1)).gone == {}


def test_without_axes_the_first_ones_are_cut(cut):
    text = TEXT.replace(", axes, steps", "")
    v = np.ones((2, 3, 1, 1), np.float32)
    bounds = {"starts": np.array([0, 0, 1, 1]), "ends": np.array([9, 9, 9, 9])}
    assert cut(text, w=FILTERS, v=v, **bounds).gone == {}
