"""Attention as one op: dimensions, values and heads."""

from __future__ import annotations

import math

import numpy as np
import pytest

TEXT = """g (float[N,3,8] x) => (float[N,3,4] y) {{
    a = MatMul(x, wq)  q0 = Reshape(a, split)  q = Transpose <perm = [0,2,1,3]> (q0)
    b = MatMul(x, wk)  k0 = Reshape(b, split)  k = Transpose <perm = [0,2,1,3]> (k0)
    c = MatMul(x, wv)  d = Add(c, bv)  v0 = Reshape(d, split)
    v = Transpose <perm = [0,2,1,3]> (v0)
    o = Attention {how} (q, k, v{more})
    t = Transpose <perm = [0,2,1,3]> (o)  f = Reshape(t, join)
    y = MatMul(f, wo) }}"""
HEADS, DEPTH = 2, 4


def arrays(**changes) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    size = HEADS * DEPTH
    found = {name: rng.standard_normal((8, size)) for name in ("wq", "wk", "wv")}
    found |= {"bv": np.zeros(size), "wo": rng.standard_normal((size, 4))}
    for name, columns in changes.items():
        found[name][..., columns] = 0
    shapes = {"split": np.array([0, 0, HEADS, DEPTH]), "join": np.array([0, 0, size])}
    return {name: one.astype(np.float32) for name, one in found.items()} | shapes


def attend(cut, how="", more="", **weights):
    text = TEXT.format(how=how, more=more)
    return cut(text, opset=23, exact=False, **weights)


def columns(done, *names: str) -> list[int]:
    """How many columns of the weights are left; the plan's first reading is of heads alone."""
    return [done.array(name).shape[-1] for name in names]


def test_a_dimension_that_is_zero_in_all_queries_goes_from_both_and_the_scale_stays(cut):
    done = attend(cut, **arrays(wq=[1, 5]))
    assert columns(done, "wq", "wk", "wv") == [6, 6, 8]
    scale = done.node("Attention").attributes["scale"].as_float()
    assert scale == pytest.approx(1 / math.sqrt(DEPTH))


def test_a_scale_that_is_given_stays(cut):
    done = attend(cut, "<scale = 0.25>", **arrays(wk=[0, 4]))
    assert columns(done, "wq", "wk", "wv") == [6, 6, 8]
    assert done.node("Attention").attributes["scale"].as_float() == 0.25


def test_constant_values_go_into_the_bias_behind(cut):
    weights = arrays(wv=[2, 6])
    weights["bv"][[2, 6]] = 3
    done = attend(cut, **weights)
    assert columns(done, "wq", "wk", "wv") == [8, 8, 6]
    assert done.array("wo").shape == (6, 4)


def test_constant_values_stay_where_a_row_may_be_masked_altogether(cut):
    weights = arrays(wv=[2, 6])
    weights["bv"][[2, 6]] = 3
    weights["mask"] = np.zeros((3, 3), np.float32)
    assert columns(attend(cut, more=", mask", **weights), "wv", "wq") == [8, 8]


def test_values_of_zero_go_through_a_mask(cut):
    weights = arrays(wv=[2, 6]) | {"mask": np.zeros((3, 3), np.float32)}
    assert columns(attend(cut, more=", mask", **weights), "wv") == [6]


def test_a_head_without_values_goes_with_its_queries_and_keys(cut):
    done = attend(cut, **arrays(wv=[4, 5, 6, 7]))
    assert all(done.gone[name] == {1: [4, 5, 6, 7]} for name in ("wq", "wk", "wv"))
    assert done.gone["wo"] == {0: [4, 5, 6, 7]}


def test_a_head_that_a_mask_tells_from_the_others_stays(cut):
    mask = np.zeros((1, HEADS, 3, 3), np.float32)
    mask[:, 0, :, 1] = -1
    weights = arrays(wv=[4, 5, 6, 7]) | {"mask": mask}
    done = attend(cut, more=", mask", **weights)
    assert columns(done, "wq") == [8]


def test_dimensions_of_one_head_alone_stay(cut):
    assert columns(attend(cut, **arrays(wq=[1])), "wq") == [8]
