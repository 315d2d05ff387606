"""Small networks of the usual kinds, with dead and constant channels everywhere."""

from __future__ import annotations

import numpy as np
import pytest


def ramp(*shape: int, dead: tuple[int, ...] = (), axis: int = 0) -> np.ndarray:
    array = (np.arange(np.prod(shape)) % 3 + 1).reshape(shape).astype(np.float32)
    np.moveaxis(array, axis, 0)[list(dead)] = 0
    return array


def vector(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


def test_a_classifier_loses_constants_before_its_flat_head(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2] y) {
        h = Conv <pads = [1,1,1,1]> (x, w, b)
        m = MaxPool <kernel_shape = [2,2], strides = [2,2]> (h)
        f = Flatten(m)
        g1 = Gemm <transB = 1> (f, v, c)
        r = Relu(g1)
        y = Gemm(r, u)}"""
    done = cut(
        text,
        w=ramp(4, 2, 3, 3, dead=(1, 2)), b=vector(0, 2, -8, 0),
        v=ramp(6, 16, dead=(1,)), c=vector(1, -5, 3, 4, 5, 6), u=ramp(6, 2),
    )  # fmt: skip
    assert done.gone["w"] == {0: [1, 2]} and done.array("v").shape == (5, 8)


def test_a_unet_merges_at_its_padded_join(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        a = Conv <pads = [1,1,1,1]> (x, wa, ba)
        ra = Relu(a)
        p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (ra)
        b = Conv <pads = [1,1,1,1]> (p, wb, bb)
        rb = Relu(b)
        u = Resize <mode = "nearest"> (rb, , scales)
        c = Concat <axis = 1> (u, ra)
        y = Conv <pads = [1,1,1,1]> (c, v)}"""
    done = cut(
        text, ort=True,
        wa=ramp(4, 2, 3, 3, dead=(1, 2)), ba=vector(0, 2, -8, 0),
        wb=ramp(6, 4, 3, 3, dead=(0, 3, 5)), bb=vector(4, 1, 1, 2, 1, 8),
        v=ramp(2, 10, 3, 3), scales=vector(1, 1, 2, 2),
    )  # fmt: skip
    assert done.gone["wa"] == {0: [2]}  # channel 1 is the encoder's own constant
    assert done.gone["wb"] == {0: [0, 3], 1: [2]} or len(done.gone["wb"][0]) >= 2


def test_a_mlp_behind_a_transpose_is_cut(cut):
    text = """g (float[N,2,4,4] x) => (float[N,4,4,2] y) {
        h = Conv(x, w, b)
        t = Transpose <perm = [0,2,3,1]> (h)
        m = MatMul(t, v)
        a = Add(m, k)
        r = Relu(a)
        n = MatMul(r, u)
        y = Add(n, l)}"""
    done = cut(
        text,
        w=ramp(4, 2, 1, 1, dead=(1, 2)), b=vector(0, 2, 8, 0),
        v=ramp(4, 5, dead=(3,), axis=1), k=vector(1, -1, 2, -4, 3), u=ramp(5, 2), l=vector(1, 2),
    )  # fmt: skip
    assert done.array("v").shape == (2, 4) and done.ops.count("Add") == 2


def test_a_shufflenet_loses_channels_on_both_sides_of_its_splits(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        h = Conv(x, w, b)
        l, r = Split <axis = 1> (h, sizes)
        q = Conv(r, wr, br)
        d = Conv <group = 4, pads = [1,1,1,1]> (q, dw, db)
        c = Concat <axis = 1> (l, d)
        s1 = Reshape(c, split)
        s2 = Transpose <perm = [0,2,1,3,4]> (s1)
        s3 = Reshape(s2, merge)
        l2, r2 = Split <axis = 1> (s3, sizes)
        q2 = Conv(r2, w2)
        c2 = Concat <axis = 1> (l2, q2)
        y = Conv(c2, v)}"""
    done = cut(
        text,
        w=ramp(8, 2, 1, 1, dead=(1, 4)), b=vector(0, 3, 0, 0, 2, 0, 0, 0),
        wr=ramp(4, 4, 1, 1, dead=(2,)), br=vector(0, 0, 4, 0), dw=ramp(4, 1, 3, 3), db=ramp(4),
        w2=ramp(4, 4, 1, 1, dead=(0,)), v=ramp(2, 8, 1, 1, dead=(1,), axis=1),
        sizes=np.array([4, 4]), split=np.array([0, 2, 4, 4, 4]), merge=np.array([0, 8, 4, 4]),
    )  # fmt: skip
    assert done.gone["w"] == {0: [1, 4]} and done.gone["v"] == {1: [1, 2, 4]}
    assert done.ops.count("Split") == 2 and "Gather" in done.ops


def test_constants_of_a_plain_and_a_grouped_reader_agree_on_who_stays(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        h = Conv(x, w, b)
        p = Conv <pads = [1,1,1,1]> (h, v)
        q = Conv <pads = [1,1,1,1], group = 2> (h, u)
        s = Add(p, q)
        y = Conv(s, t)}"""
    arrays = {"v": ramp(4, 6, 3, 3), "u": ramp(4, 3, 3, 3), "t": ramp(2, 4, 1, 1)}
    w = ramp(6, 2, 1, 1, dead=(1, 2, 4, 5))
    done = cut(text, w=w, b=vector(0, 2, 8, 0, 4, 2), **arrays)
    assert done.gone["w"] == {0: [1, 5]}


@pytest.mark.parametrize("bias", [(2, 8), (8, 2)])
def test_a_pattern_for_one_reader_is_a_number_for_the_other(cut, bias):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        h = Conv(x, w, b)
        a = AveragePool <kernel_shape = [3,3], pads = [1,1,1,1], count_include_pad = 1> (h)
        m = MaxPool <kernel_shape = [3,3], pads = [1,1,1,1]> (h)
        s = Conv(a, v)
        t = Conv(m, u)
        y = Add(s, t)}"""
    arrays = {"v": ramp(2, 4, 1, 1), "u": ramp(2, 4, 1, 1)}
    w, b = ramp(4, 2, 1, 1, dead=(1, 2, 3)), vector(0, *bias, 0)
    done = cut(text, exact=False, ort=True, w=w, b=b, **arrays)
    assert done.gone["w"] == {0: [1 + bias.index(2), 3]}
    assert [len(node.inputs) for node in done.after.graph if node.op_type == "Conv"] == [3, 2, 3]


def test_outputs_of_the_graph_may_come_from_replaced_nodes(cut):
    """The Slice becomes a Gather, the Split loses two of its parts."""
    text = """g (float[N,2,4,4] x) => (float[N,3,4,4] y, float[N,1,4,4] z, float[N,2,4,4] u) {
        h = Conv(x, w)
        y = Slice(h, start, stop, axis, step)
        z = Conv(h, v)
        k = Conv(x, w)
        a, u, c = Split <axis = 1> (k, sizes)}"""
    v = np.zeros((1, 6, 1, 1), np.float32)
    v[0, 1] = 1
    window = {"start": 0, "stop": 6, "axis": 1, "step": 2}
    done = cut(text, w=ramp(6, 2, 1, 1), v=v, sizes=np.array([2, 2, 2]),
               **{name: np.array([number]) for name, number in window.items()})  # fmt: skip
    assert done.gone["w"] == {0: [3, 5]} and done.gone["w.copy"] == {0: [0, 1, 4, 5]}
    shapes = {out.name: list(out.shape)[1:] for out in done.after.graph.outputs}
    assert shapes == {"y": [3, 4, 4], "z": [1, 4, 4], "u": [2, 4, 4]}
