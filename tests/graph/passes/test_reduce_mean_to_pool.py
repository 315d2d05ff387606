from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.passes.reduce_mean_to_pool import ReduceMeanToPool


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [3, -2]])
def test_a_mean_over_the_picture_becomes_a_pooling(parse, ops, same, axes):
    text = "g (float[N,2,3,4] x) => (float[N,2,1,1] y) {y = ReduceMean(x, axes)}"
    before, after = parse(text, axes=np.array(axes)), parse(text, axes=np.array(axes))
    assert ReduceMeanToPool()(after).modified
    assert ops(after) == ["GlobalAveragePool"]
    same(before, after)


def test_without_kept_dimensions_it_is_flattened(parse, ops, same):
    text = """g (float[N,2,3,4] x) => (float[N,2] y) {
        h = Relu(x)
        y = ReduceMean <keepdims = 0> (h, axes)}"""
    before, after = (parse(text, axes=np.array([2, 3])) for _ in range(2))
    assert ReduceMeanToPool()(after).modified
    assert ops(after) == ["Relu", "GlobalAveragePool", "Flatten"]
    same(before, after)


def test_axes_may_be_an_attribute_as_before_opset_18(parse, ops, same):
    text = """g (float[N,2,3] x) => (float[N,2,1] y) {
        y = ReduceMean <axes = [2], keepdims = 1> (x)}"""
    before, after = parse(text, opset=13), parse(text, opset=13)
    assert ReduceMeanToPool()(after).modified and ops(after) == ["GlobalAveragePool"]
    same(before, after)


@pytest.mark.parametrize(
    ("given", "made", "axes"),
    [
        ("float[N,2,3,4]", "float[N,1,1,4]", [1, 2]),
        ("float[N,2,3,4]", "float[N,2,1,4]", [2]),
        ("float[N,2,3,4]", "float[1,1,1,1]", [0, 1, 2, 3]),
        ("float[N,2]", "float[N,1]", [1]),
        ("int32[N,2,3,4]", "int32[N,2,1,1]", [2, 3]),
        ("double[N,2,3,4]", "double[N,2,1,1]", [2, 3]),
        ("bfloat16[N,2,3,4]", "bfloat16[N,2,1,1]", [2, 3]),
    ],
)
def test_other_means_are_left_alone_with_a_reason(parse, ops, given, made, axes):
    text = f"g ({given} x) => ({made} y) {{y = ReduceMean(x, axes)}}"
    model = parse(text, axes=np.array(axes))
    outcome = ReduceMeanToPool()(model)
    assert not outcome.modified and ops(model) == ["ReduceMean"]
    assert outcome.refusals[0].startswith("kept ReduceMean")


def test_a_mean_over_everything_is_left_alone(parse):
    model = parse("g (float[N,2,3,4] x) => (float[1,1,1,1] y) {y = ReduceMean(x)}")
    assert "[] of 4" in ReduceMeanToPool()(model).refusals[0]


def test_axes_that_arrive_at_run_time_are_left_alone(parse):
    text = "g (float[N,2,3,4] x, int64[2] axes) => (float[N,2,1,1] y) {y = ReduceMean(x, axes)}"
    assert "not constant" in ReduceMeanToPool()(parse(text)).refusals[0]
