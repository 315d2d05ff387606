from __future__ import annotations

import numpy as np

TEXT = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
    a = Conv(x, wa)
    b = Conv(x, wb)
    c = Concat <axis = 1> (a, b)
    y = Conv(c, v)}"""


def filters(channels: int, *dead: int) -> np.ndarray:
    weights = np.ones((channels, 2, 1, 1), np.float32)
    weights[list(dead)] = 0
    return weights


def test_dead_channels_of_each_part_leave_at_their_offset(cut):
    v = np.ones((2, 5, 1, 1), np.float32)
    done = cut(TEXT, wa=filters(3, 1), wb=filters(2, 0), v=v)
    assert done.gone["wa"] == {0: [1]} and done.gone["wb"] == {0: [0]}
    assert done.gone["c"] == done.gone["v"] == {1: [1, 3]}


def test_a_channel_that_the_reader_of_the_whole_ignores_leaves_its_part(cut):
    v = np.ones((2, 5, 1, 1), np.float32)
    v[:, 4] = 0
    assert cut(TEXT, wa=filters(3), wb=filters(2), v=v).gone["wb"] == {0: [1]}


def test_a_part_that_lies_there_twice_goes_only_from_both_places(cut):
    text = TEXT.replace("(a, b)", "(a, a)").replace("b = Conv(x, wb)\n", "")
    v = np.ones((2, 6, 1, 1), np.float32)
    v[:, [0, 4]] = 0
    v[:, 1] = 0
    done = cut(text, wa=filters(3), v=v)
    assert done.gone["wa"] == {0: [1]} and done.gone["v"] == {1: [1, 4]}


def test_a_constant_part_is_cut_where_it_is_zero(cut):
    text = TEXT.replace("b = Conv(x, wb)\n", "").replace("(a, b)", "(a, k)")
    text = text.replace("float[N,", "float[1,")
    k = np.zeros((1, 3, 4, 4), np.float32)
    k[:, 1] = 3
    k[:, 2] = np.arange(16).reshape(4, 4)
    done = cut(text, wa=filters(3), k=k, v=np.ones((2, 6, 1, 1), np.float32))
    assert done.gone["k"] == {1: [0, 1]} and done.gone["v"] == {1: [3, 4]}


def test_along_another_axis_a_channel_is_dead_only_if_it_is_dead_in_all_parts(cut):
    text = TEXT.replace("axis = 1", "axis = 2").replace("N,2,4,4] y", "N,2,8,4] y")
    v = np.ones((2, 3, 1, 1), np.float32)
    assert cut(text, wa=filters(3), wb=filters(3, 1), v=v).gone == {}
    assert cut(text, wa=filters(3, 1), wb=filters(3, 1), v=v).gone["wb"] == {0: [1]}


def test_a_constant_part_along_another_axis_is_looked_at(cut):
    text = """g (float[1,2,4,4] x) => (float[1,2,5,4] y) {
        a = Conv(x, wa)
        c = Concat <axis = 2> (k, a)
        y = Conv(c, v)}"""
    v = np.ones((2, 3, 1, 1), np.float32)
    token = np.ones((1, 3, 1, 4), np.float32)
    assert cut(text, wa=filters(3, 1), k=token, v=v).gone == {}
    token[:, 1] = 0
    assert cut(text, wa=filters(3, 1), k=token, v=v).gone["k"] == {1: [1]}
