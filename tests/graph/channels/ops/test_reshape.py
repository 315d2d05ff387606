from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.channels.ops.reshape import _blocks

TEXT = """g (float[N,2,2,3] x) => (float[N,2] y) {{
    a = Conv(x, w)
    f = {op}
    y = Gemm(f, fc)}}"""
FC = (np.arange(36) % 5 - 2).reshape(18, 2).astype(np.float32)


def filters(channels: int, *dead: int) -> np.ndarray:
    weights = np.ones((channels, 2, 1, 1), np.float32)
    weights[list(dead)] = 0
    return weights


def test_a_channel_is_a_block_of_height_times_width_columns(cut):
    done = cut(TEXT.format(op="Flatten(a)"), w=filters(3, 1), fc=FC)
    assert done.gone["fc"] == {0: [6, 7, 8, 9, 10, 11]}


def test_a_channel_stays_while_one_of_its_columns_is_read(cut):
    fc = FC.copy()
    fc[:6] = 0
    fc[12:17] = 0
    done = cut(TEXT.format(op="Flatten(a)"), w=filters(3), fc=fc)
    assert done.gone["w"] == {0: [0]} and done.gone["fc"] == {0: [0, 1, 2, 3, 4, 5]}


@pytest.mark.parametrize("shape", [[-1, 18], [0, 18], [0, -1]])
def test_the_shape_of_a_reshape_is_rewritten(cut, shape):
    done = cut(TEXT.format(op="Reshape(a, to)"), w=filters(3, 1), fc=FC, to=np.array(shape))
    assert done.gone["fc"] == {0: [6, 7, 8, 9, 10, 11]}
    kept = done.node("Reshape").inputs[1].const_value.numpy().tolist()
    assert kept == [12 if size == 18 else size for size in shape]


def test_a_shape_that_two_share_is_left_to_the_other(cut):
    text = """g (float[N,2,2,3] x, float[N,3,2,3] z) => (float[N,2] y, float[N,18] u) {
        a = Conv(x, w)
        f = Reshape(a, to)
        y = Gemm(f, fc)
        u = Reshape(z, to)}"""
    done = cut(text, w=filters(3, 1), fc=FC, to=np.array([-1, 18]))
    assert done.gone["w"] == {0: [1]} and done.array("to").tolist() == [-1, 18]


def test_a_shape_that_is_computed_pins(cut):
    text = """g (float[2,2,2,3] x) => (float[2,2] y) {
        a = Conv(x, w)
        n = Shape <start = 0, end = 1> (x)
        to = Concat <axis = 0> (n, rest)
        f = Reshape(a, to)
        y = Gemm(f, fc)}"""
    done = cut(text, w=filters(3, 1), fc=FC, rest=np.array([18]))
    assert done.gone == {}


def test_merged_rows_are_not_taken_for_channels(cut):
    """[N, T, D] -> [N*T, D] with T = D begins like a shape that leaves its axes alone."""
    text = """g (float[N,3,4] x) => (float[M,2] y) {
        a = MatMul(x, w)
        t = Transpose <perm = [0, 2, 1]> (a)
        f = Reshape(t, to)
        y = MatMul(f, fc)}"""
    w = np.ones((4, 3), np.float32)
    w[:, 1] = 0
    assert cut(text, w=w, fc=np.ones((3, 2), np.float32), to=np.array([-1, 3])).gone == {}


def test_channels_split_into_heads_are_left_alone(cut):
    text = """g (float[N,2,2,2] x) => (float[N,2,2,4] y) {
        a = Conv(x, w)
        y = Reshape(a, to)}"""
    assert cut(text, w=filters(4, 0, 1), to=np.array([0, 2, 2, 4])).gone == {}


def test_axes_of_size_one_come_and_go(cut):
    text = """g (float[N,2,1,1] x) => (float[N,2] y) {
        a = Conv(x, w)
        s = Squeeze(a, axes)
        u = Unsqueeze(s, one)
        f = Flatten(u)
        y = Gemm(f, fc)}"""
    arrays = {"axes": np.array([2, 3]), "one": np.array([1]), "fc": FC[:3]}
    done = cut(text, w=filters(3, 1), **arrays)
    assert done.gone["s"] == {1: [1]} and done.gone["u"] == {2: [1]}


def test_a_squeeze_of_whatever_is_one_pins(cut):
    """One channel left would be squeezed too."""
    text = """g (float[2,2,1,1] x) => (float[2,2] y) {
        a = Conv(x, w)
        s = Squeeze(a)
        y = Gemm(s, fc)}"""
    assert cut(text, w=filters(3, 1, 2), fc=FC[:3]).gone == {}


BLOCKS = {
    "same": ([None, 3, 4], [None, 3, 4], [(1, 1, 1), (2, 2, 1)], True),
    "merged": ([None, 3, 4, 5], [None, 60], [(1, 1, 20)], True),
    "ones": ([2, 1, 3], [2, 3, 1], [(0, 0, 1), (2, 1, 1)], True),
    "split": ([2, 6], [2, 2, 3], [(0, 0, 1)], False),
    "rows": ([None, 4, 4], [None, 4], [(1, 1, 1)], False),
    "dynamic tail": ([2, 3, None, 4], [2, 3, None], [(0, 0, 1), (1, 1, 1)], False),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_say_where_an_index_goes(name):
    before, after, blocks, whole = BLOCKS[name]
    assert _blocks(before, after) == (blocks, whole)
