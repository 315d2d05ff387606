from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.graph.channels.ops.reshape import Reshape

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


def test_a_shape_without_zeros_may_mean_them_literally(cut):
    text = TEXT.format(op="Reshape <allowzero = 1> (a, to)")
    done = cut(text, w=filters(3, 1), fc=FC, to=np.array([-1, 18]))
    assert done.gone["w"] == {0: [1]}


def test_a_literal_zero_pins(parse, flow):
    text = TEXT.format(op="Reshape <allowzero = 1> (a, to)").replace("[N,", "[0,")
    found = flow(parse(text, w=filters(3, 1), fc=FC, to=np.array([0, 18])))
    assert all("computed" in why for (v, a), why in found.cells.pins.items() if v.name == "f")


def test_a_shape_that_two_share_is_left_to_the_other(cut):
    text = """g (float[N,2,2,3] x, float[N,3,2,3] z) => (float[N,2] y, float[N,18] u) {
        a = Conv(x, w)
        f = Reshape(a, to)
        y = Gemm(f, fc)
        u = Reshape(z, to)}"""
    done = cut(text, w=filters(3, 1), fc=FC, to=np.array([-1, 18]))
    assert done.gone["w"] == {0: [1]} and done.array("to").tolist() == [-1, 18]


COMPUTED = """g (float[N,2,2,3] x) => (float[N,2] y) {
    a = Conv(x, w)
    n = Shape <start = 0, end = 1> (x)
    to = Concat <axis = 0> (n, rest)
    f = Reshape (a, to)
    y = Gemm(f, fc)}"""


@pytest.mark.parametrize("allowzero", [0, 1])
def test_a_shape_that_is_computed_from_the_batch_is_written_down(cut, allowzero):
    """The chain that computed it goes; a 0 takes the batch as it comes."""
    text = COMPUTED.replace("Reshape (", f"Reshape <allowzero = {allowzero}> (")
    done = cut(text, w=filters(3, 1), fc=FC, rest=np.array([18]))
    assert done.gone["w"] == {0: [1]} and done.ops == ["Conv", "Reshape", "Gemm"]
    assert done.constant("Reshape", 1) == [0, 12]


def test_a_shape_that_is_computed_from_the_cut_tensor_is_written_down(cut):
    text = COMPUTED.replace("(x)\n", "(a)\n")
    assert cut(text, w=filters(3, 1), fc=FC, rest=np.array([18])).gone["w"] == {0: [1]}


def test_a_shape_of_which_nothing_is_known_pins(parse, flow):
    text = """g (float[N,2,2,3] x, int64[2] to) => (float[A,B] y) {
        a = Conv(x, w)
        y = Reshape(a, to)}"""
    assert flow(parse(text, w=filters(3, 1))).pinned.any()


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


def test_channels_split_into_heads_that_leave_the_graph_stay(cut):
    text = """g (float[N,2,2,2] x) => (float[N,2,2,4] y) {
        a = Conv(x, w)
        y = Reshape(a, to)}"""
    assert cut(text, w=filters(4, 0, 1), to=np.array([0, 2, 2, 4])).gone == {}


HEADS = """g (float[N,5,4] x) => (float[N,5,2] y) {{
    a = MatMul(x, w)
    h = Reshape(a, split)
    r = {op}
    m = Reshape(r, merge)
    y = MatMul(m, v)}}"""


def heads(heads: int, dim: int, *dead: int) -> dict[str, np.ndarray]:
    w = np.ones((4, heads * dim), np.float32)
    w[:, list(dead)] = 0
    v = (np.arange(heads * dim * 2) % 3 - 1).reshape(-1, 2).astype(np.float32)
    split, merge = np.array([0, 5, heads, dim]), np.array([0, 5, heads * dim])
    return {"w": w, "v": v, "split": split, "merge": merge}


def test_a_dead_head_goes_whole(cut):
    done = cut(HEADS.format(op="Relu(h)"), **heads(3, 4, 4, 5, 6, 7, 9))
    assert done.gone["w"] == {1: [4, 5, 6, 7]} and done.gone["h"] == {2: [1]}
    assert done.constant("Reshape", 1) == [0, 5, 2, 4] and done.array("v").shape == (8, 2)


def test_the_same_dead_dimension_of_all_heads_goes(cut):
    """No head is dead; the second reading of the split finds dimension 1."""
    done = cut(HEADS.format(op="Relu(h)"), **heads(3, 4, 1, 5, 9))
    assert done.gone == {}
    assert done.array("w").shape == (4, 9) and done.constant("Reshape", 1) == [0, 5, 3, 3]


def test_a_dead_head_and_a_dead_dimension_of_the_others_go(cut):
    done = cut(HEADS.format(op="Relu(h)"), **heads(3, 4, 1, 4, 5, 6, 7, 9))
    assert done.array("w").shape == (4, 6) and done.constant("Reshape", 1) == [0, 5, 2, 3]


def test_a_dead_dimension_of_one_head_stays(cut):
    done = cut(HEADS.format(op="Relu(h)"), **heads(3, 4, 1, 5))
    assert done.array("w").shape == (4, 12)


def test_heads_of_a_softmax_go_and_its_dimensions_stay(cut):
    text = HEADS.format(op="Softmax <axis = 3> (h)")
    w = heads(3, 4, 1, 5, 9)
    w["v"][4:8] = 0
    done = cut(text, exact=False, **w)
    assert done.array("w").shape == (4, 8) and done.constant("Reshape", 1) == [0, 5, 2, 4]


def test_several_axes_become_several_others(cut):
    """[6, 4] -> [3, 8]: rows 2k and 2k + 1 go with row k."""
    text = """g (float[4,5] x) => (float[2,8] y) {
        a = MatMul(u, x)
        b = MatMul(a, w)
        r = Reshape(b, to)
        y = MatMul(v, r)}"""
    u, w, v = (np.ones(s, np.float32) for s in ((6, 4), (5, 4), (2, 3)))
    v[:, 1] = 0
    done = cut(text, u=u, w=w, v=v, to=np.array([3, 8]))
    assert done.gone["u"] == {0: [2, 3]} and done.constant("Reshape", 1) == [2, 8]


def test_a_constant_keeps_its_place_through_a_merge(cut):
    """All pixels of channel 1 are the bias 5, so the rows of its columns go into the bias."""
    done = cut(
        TEXT.format(op="Flatten(a)").replace("Conv(x, w)", "Conv(x, w, b)"),
        w=filters(3, 1), fc=FC, b=np.array([0, 5, 0], np.float32),
    )  # fmt: skip
    assert done.gone["fc"] == {0: [6, 7, 8, 9, 10, 11]}
    wanted = 5 * FC[6:12].sum(0)
    assert done.after.graph[-1].inputs[2].const_value.numpy().tolist() == wanted.tolist()


@pytest.mark.parametrize("axis", [1, -3])
def test_a_flatten_may_start_anywhere(cut, axis):
    text = TEXT.format(op=f"Flatten <axis = {axis}> (a)")
    assert cut(text, w=filters(3, 2), fc=FC).gone["w"] == {0: [2]}


def test_a_flatten_that_mixes_rows_and_channels_takes_the_channels_rows(cut):
    text = """g (float[1,2,2,3] x) => (float[6,2] y) {
        a = Conv(x, w)
        f = Flatten <axis = 3> (a)
        t = MatMul(f, fc)
        y = MatMul(v, t)}"""
    v = np.ones((6, 6), np.float32)
    v[:, 2:4] = 0
    done = cut(text, w=filters(3), fc=FC[:3], v=v)
    assert done.gone["w"] == {0: [1]} and done.gone["v"] == {1: [2, 3]}


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


MATCHED = {
    "same": ([None, 3, 4], [None, 3, 4], [(0, 0), (1, 1), (2, 2)], []),
    "by the rest": (["N", 3, 6, 4], [None, 18, 4], [(0, 0), (3, 2)], [([1, 2], [1])]),
    "not by the rest": (["N", 3, 6, 4], [None, 9, 4], [(3, 2)], []),
    "named": (["N", 3], ["N", 3], [(0, 0), (1, 1)], []),
    "merged": (["N", 3, 4, 5], ["N", 60], [(0, 0)], [([1, 2, 3], [1])]),
    "ones": ([2, 1, 3], [2, 3, 1], [(0, 0), (2, 1)], []),
    "split": ([2, 6], [2, 2, 3], [(0, 0)], [([1], [1, 2])]),
    "rows": (["N", 4, 4], ["M", 4], [(2, 1)], []),
    "two segments": ([6, 4, 5], [2, 3, 20], [], [([0], [0, 1]), ([1, 2], [2])]),
    "mixed": ([6, 4], [3, 8], [], [([0, 1], [0, 1])]),
}


@pytest.mark.parametrize("name", MATCHED)
def test_axes_pass_or_lie_in_the_smallest_segments(name):
    before, after, pairs, segments = MATCHED[name]
    x = ir.Value(name="x", shape=ir.Shape(before), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.node("Reshape", [x])
    node.outputs[0].shape = ir.Shape(after)
    found, parts = Reshape(node)._matched
    assert sorted((left[1], right[1]) for left, right in found) == sorted(pairs)
    assert [([a for _, a in left], [a for _, a in right]) for left, right in parts] == segments
