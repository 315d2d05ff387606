from __future__ import annotations

import numpy as np
import pytest

TEXT = """g (float[N,2,4,4] x) => (float[N,2,A,B] y) {
    h = Conv(x, w)
    g = Gather <axis = 1> (h, index)
    y = Conv(g, v)}"""


def filters(channels: int, *dead: int) -> np.ndarray:
    weights = (np.arange(channels * 2) % 3 + 1).reshape(channels, 2, 1, 1).astype(np.float32)
    weights[list(dead)] = 0
    return weights


def readers(channels: int) -> np.ndarray:
    return (np.arange(2 * channels) % 4 + 1).reshape(2, channels, 1, 1).astype(np.float32)


@pytest.mark.parametrize("index", [[4, 2, 0, 1, 3], [-1, 2, -5, 1, 3]])
def test_an_order_of_channels_is_written_anew(cut, index):
    done = cut(TEXT, w=filters(5, 2, 3), v=readers(5), index=np.array(index))
    assert done.gone["w"] == {0: [2, 3]} and done.gone["v"] == {1: [1, 4]}
    assert done.constant("Gather", 1) == [2, 0, 1]


def test_what_is_not_picked_goes(cut):
    done = cut(TEXT, w=filters(5), v=readers(2), index=np.array([3, 1]))
    assert done.gone["w"] == {0: [0, 2, 4]} and done.constant("Gather", 1) == [1, 0]


def test_a_channel_picked_twice_goes_from_both_places(cut):
    v = readers(4)
    v[:, [0, 1]] = 0
    done = cut(TEXT, w=filters(3), v=v, index=np.array([0, 1, 1, 2]))
    assert done.gone["w"] == {0: [0]} and done.gone["v"] == {1: [0]}
    dead = cut(TEXT, w=filters(3, 1), v=readers(4), index=np.array([0, 1, 1, 2]))
    assert dead.gone["v"] == {1: [1, 2]}


def test_channels_pass_where_another_axis_is_gathered(cut):
    text = TEXT.replace("axis = 1", "axis = -2")
    done = cut(text, w=filters(3, 1), v=readers(3), index=np.array([0, 2]))
    assert done.gone["w"] == {0: [1]} and done.constant("Gather", 1) == [0, 2]


@pytest.mark.parametrize("index", [np.array(2), np.array([[0, 1], [2, 3]])])
def test_axes_move_with_the_rank_of_the_indices(cut, index):
    """One pixel column is picked, or a table of them."""
    text = """g (float[N,2,4,4] x) => (float[N,A,B,C] y) {
        h = Conv(x, w)
        g = Gather <axis = 2> (h, index)
        y = ReduceSum <keepdims = 1> (g, one)}"""
    if index.ndim == 0:
        text = text.replace("[N,A,B,C]", "[N,A,B]")
    else:
        text = text.replace("[N,A,B,C]", "[N,A,B,C,D]")
    done = cut(text, w=filters(3, 1), index=index, one=np.array([1]))
    assert done.gone["w"] == {0: [1]} and done.gone["g"] == {1: [1]}


def test_a_single_channel_that_is_picked_stays(cut):
    text = """g (float[N,2,4,4] x) => (float[N,4,4] y) {
        h = Conv(x, w)
        y = Gather <axis = 1> (h, index)}"""
    assert cut(text, w=filters(3, 1), index=np.array(2)).gone == {}


def test_indices_that_are_computed_pin_their_axis_alone(cut):
    text = """g (float[N,2,4,4] x, int64[3] q) => (float[N,2,3,4] y) {
        h = Conv(x, w)
        g = Gather <axis = 2> (h, q)
        y = Conv(g, v)}"""
    assert cut(text, w=filters(3, 1), v=readers(3)).gone["w"] == {0: [1]}
    over = text.replace("axis = 2", "axis = 1").replace("2,3,4] y", "2,4,4] y")
    assert cut(over, w=filters(3, 1), v=readers(3)).gone == {}


def test_a_dead_dimension_leaves_an_embedding(cut):
    text = """g (int64[N,4] ids) => (float[N,4,2] y) {
        e = Gather(table, ids)
        y = MatMul(e, v)}"""
    table = np.arange(15, dtype=np.float32).reshape(5, 3)
    table[:, 1] = 0
    done = cut(text, table=table, v=np.ones((3, 2), np.float32))
    assert done.gone["table"] == {1: [1]} and done.gone["v"] == {0: [1]}


def test_a_constant_dimension_of_an_embedding_goes_into_the_bias(cut):
    text = """g (int64[N,4] ids) => (float[N,4,2] y) {
        e = Gather(table, ids)
        y = MatMul(e, v)}"""
    table = np.arange(15, dtype=np.float32).reshape(5, 3)
    table[:, 1] = 4
    done = cut(text, table=table, v=np.ones((3, 2), np.float32))
    assert done.gone["table"] == {1: [1]} and done.ops == ["Gather", "MatMul", "Add"]


def test_a_table_that_two_look_into_is_cut_for_each(cut):
    text = """g (int64[N,4] ids) => (float[N,4,8] y, float[N,4,8] z) {
        e = Gather(table, ids)
        f = Gather(table, ids)
        y = MatMul(e, v)
        z = MatMul(f, u)}"""
    table = np.arange(15, dtype=np.float32).reshape(5, 3)
    v, u = np.ones((3, 8), np.float32), np.ones((3, 8), np.float32)
    v[0] = u[1] = 0
    done = cut(text, table=table, v=v, u=u)
    assert done.gone["table"] == {1: [0]} and done.gone["table.copy"] == {1: [1]}
