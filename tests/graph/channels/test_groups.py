from __future__ import annotations

import numpy as np

from deploypipe.graph.channels.groups import groups_of, prunable_groups

TEXT = """g (float[N,2,4,4] x) => (float[N,2] y) {
    a = Conv(x, w1)
    n = BatchNormalization(a, s, b, m, v)
    c = Conv(n, w2)
    d = Conv(n, w3)
    e = Add(c, d)
    f = Flatten(e)
    y = Gemm(f, fc)}"""


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def model(parse):
    norm = {name: ones(3) for name in "sbmv"}
    convs = {"w1": ones(3, 2, 1, 1), "w2": ones(4, 3, 1, 1), "w3": ones(4, 3, 1, 1)}
    return parse(TEXT, **norm, **convs, fc=ones(64, 2))


def test_a_group_is_all_that_its_channels_run_through(parse, flow):
    built = model(parse)
    flow(built)
    groups = {group.name: group for group in prunable_groups(built)}
    assert {name: group.channels for name, group in groups.items()} == {"w1": 3, "w2": 4}
    slices = {(s.parameter, s.axis) for s in groups["w1"].slices}
    norm = {(name, 0) for name in "sbmv"}
    assert slices == {("w1", 0), ("w2", 1), ("w3", 1), *norm}
    assert {(s.parameter, s.axis) for s in groups["w2"].slices} == {("w2", 0), ("w3", 0), ("fc", 0)}


def test_a_slice_tells_the_positions_of_every_channel(parse, flow):
    built = model(parse)
    flow(built)
    groups = {group.name: group for group in prunable_groups(built)}
    index = {s.parameter: s.index for s in groups["w2"].slices}
    assert index["w3"].tolist() == [[0], [1], [2], [3]]
    assert index["fc"].tolist() == np.arange(64).reshape(4, 16).tolist()


def test_channels_that_lie_on_different_axes_are_different_groups(parse, flow):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        a = Conv(x, wa)
        b = Conv(x, wb)
        c = Concat <axis = 1> (a, b)
        y = Conv(c, v)}"""
    built = parse(text, wa=ones(3, 2, 1, 1), wb=ones(2, 2, 1, 1), v=ones(2, 5, 1, 1))
    assert sorted(len(group) for group in groups_of(flow(built))) == [2, 3]
    index = {
        g.name: {s.parameter: s.index.tolist() for s in g.slices} for g in prunable_groups(built)
    }
    assert index["wb"]["v"] == [[3], [4]]


def test_a_model_without_a_free_channel_has_no_groups(parse, flow):
    built = parse("g (float[N,2] x) => (float[N,2] y) {y = Gemm(x, w)}", w=ones(2, 2))
    assert groups_of(flow(built)) == [] and prunable_groups(built) == []


def test_a_group_of_one_channel_is_not_offered(parse, flow):
    built = parse(
        "g (float[N,2] x) => (float[N,2] y) {h = Gemm(x, w)\ny = Gemm(h, v)}",
        w=ones(2, 1), v=ones(1, 2),
    )  # fmt: skip
    flow(built)
    assert prunable_groups(built) == []
