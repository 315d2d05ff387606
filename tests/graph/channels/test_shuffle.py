from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.channels.shuffle import find_shuffles
from deploypipe.graph.shapes import infer_shapes

TEXT = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
    h = Conv(x, w)
    a = Reshape(h, split)
    b = Transpose <perm = [0, 2, 1, 3, 4]> (a)
    c = Reshape(b, merge)
    y = Conv(c, v)}"""


def filters(channels: int, *dead: int) -> np.ndarray:
    weights = (np.arange(channels * 2) % 3 + 1).reshape(channels, 2, 1, 1).astype(np.float32)
    weights[list(dead)] = 0
    return weights


def readers(channels: int, *dead: int) -> np.ndarray:
    weights = (np.arange(2 * channels) % 4 + 1).reshape(2, channels, 1, 1).astype(np.float32)
    weights[:, list(dead)] = 0
    return weights


def shapes(split: list[int], merge: list[int]) -> dict[str, np.ndarray]:
    return {"split": np.array(split), "merge": np.array(merge)}


PLAIN = shapes([0, 2, 3, 4, 4], [0, 6, 4, 4])
ORDER = [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize("dead", [(1,), (0, 4), (1, 2, 3, 5), (0, 1, 2)])
def test_any_channels_go_and_one_gather_takes_the_place_of_three(cut, dead):
    done = cut(TEXT, w=filters(6, *dead), v=readers(6), **PLAIN)
    assert done.gone["w"] == {0: list(dead)} and done.ops == ["Conv", "Gather", "Conv"]
    left = [channel for channel in range(6) if channel not in dead]
    assert done.constant("Gather", 1) == [left.index(k) for k in ORDER if k in left]


def test_channels_that_nobody_reads_behind_it_go_before_it(cut):
    done = cut(TEXT, w=filters(6), v=readers(6, 1, 2), **PLAIN)
    assert done.gone["w"] == {0: [1, 3]}


def test_constants_go_through(cut):
    text = TEXT.replace("Conv(x, w)", "Conv(x, w, bias)")
    bias = np.array([0, 0, 0, 5, 0, 0], np.float32)
    done = cut(text, w=filters(6, 3), bias=bias, v=readers(6), **PLAIN)
    assert done.gone["v"] == {1: [1]} and len(done.after.graph[-1].inputs) == 3


def test_a_shuffle_without_dead_channels_stays_as_it_is(cut):
    done = cut(TEXT, w=filters(6), v=readers(6), **PLAIN)
    assert done.gone == {} and done.ops.count("Reshape") == 2


def test_two_shuffles_in_a_row(cut):
    text = TEXT.replace(
        "y = Conv(c",
        """d = Reshape(c, split)
        e = Transpose <perm = [0, 2, 1, 3, 4]> (d)
        f = Reshape(e, merge)
        y = Conv(f""",
    )
    done = cut(text, w=filters(6, 1, 5), v=readers(6, 2), **PLAIN)
    assert done.ops == ["Conv", "Gather", "Gather", "Conv"]


@pytest.mark.parametrize(
    ("split", "perm", "merge"),
    [
        ([0, 2, 3, 2, 4, 4], "0, 3, 2, 1, 4, 5", [0, 12, 4, 4]),
        ([0, 2, 3, 2, 4, 4], "0, 2, 3, 1, 4, 5", [0, 12, 4, 4]),
        ([-1, 6, 2, 4, 4], "0, 2, 1, 3, 4", [-1, 12, 4, 4]),
    ],
)
def test_splits_of_any_number_and_order(cut, split, perm, merge):
    text = TEXT.replace("0, 2, 1, 3, 4", perm)
    done = cut(text, w=filters(12, 2, 7), v=readers(12), **shapes(split, merge))
    assert done.gone["w"] == {0: [2, 7]} and done.ops == ["Conv", "Gather", "Conv"]


def test_a_shuffle_on_the_last_axis(cut):
    text = """g (float[N,3,4] x) => (float[N,3,2] y) {
        h = MatMul(x, w)
        a = Reshape(h, split)
        b = Transpose <perm = [0, 1, 3, 2]> (a)
        c = Reshape(b, merge)
        y = MatMul(c, v)}"""
    w, v = np.ones((4, 6), np.float32), np.arange(12, dtype=np.float32).reshape(6, 2)
    w[:, 1] = 0
    done = cut(text, w=w, v=v, **shapes([0, 3, 2, 3], [0, 3, 6]))
    assert done.gone["w"] == {1: [1]} and done.ops == ["MatMul", "Gather", "MatMul"]


OTHERS = {
    "a second reader inside": (
        TEXT.replace("y = C", "z = Relu(b)\ny = C").replace("y) {", "y, float[N,3,2,4,4] z) {"),
        PLAIN,
    ),
    "an inner output": (TEXT.replace("y) {", "y, float[N,3,2,4,4] b) {"), PLAIN),
    "a pixel moves": (TEXT.replace("0, 2, 1, 3, 4", "0, 1, 2, 4, 3"), PLAIN),
    "samples move": (
        TEXT.replace("0, 2, 1, 3, 4", "1, 0, 2, 3, 4").replace("[N,", "[2,"),
        shapes([2, 2, 3, 4, 4], [2, 6, 4, 4]),
    ),
    "pixels to channels": (TEXT.replace("0, 2, 1, 3, 4", "0, 1, 3, 4, 2"), PLAIN),
    "no third": (
        TEXT.replace("c = Reshape(b, merge)", "c = ReduceSum <keepdims = 0> (b, merge)"),
        shapes([0, 2, 3, 4, 4], [2]),
    ),
    "another rank": (
        TEXT.replace("y = Conv(c, v)", "y = ReduceSum(c, merge)"),
        shapes([0, 2, 3, 4, 4], [0, 6, 16]),
    ),
}


@pytest.mark.parametrize("name", [n for n in OTHERS if n not in ("no third", "another rank")])
def test_other_reshapes_around_a_transpose_are_no_shuffle(parse, name):
    text, arrays = OTHERS[name]
    model = parse(text, w=filters(6), v=readers(6), **arrays)
    infer_shapes(model)
    assert not list(find_shuffles(model.graph))


@pytest.mark.parametrize("name", ["a second reader inside", "an inner output"])
@pytest.mark.parametrize("dead", [(1,), (0, 3), (0, 1, 2)])
def test_what_is_no_shuffle_is_cut_axis_by_axis_and_never_wrong(cut, name, dead):
    text, arrays = OTHERS[name]
    cut(text, w=filters(6, *dead), v=readers(6), **arrays)


def test_of_a_shuffle_that_is_all_dead_one_channel_stays(cut):
    text = TEXT.replace("y = Conv(c", "k = Conv(x, u)\nj = Concat <axis = 1> (c, k)\ny = Conv(j")
    done = cut(text, w=filters(6, *range(6)), u=filters(3), v=readers(9), **PLAIN)
    assert done.array("w").shape[0] == 1 and done.array("v").shape[1] == 4
