"""The passes of this room one after the other, as a recipe would run them."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from deploypipe.graph import PASSES, run_passes

NAMES = [
    "fold-constants",
    "drop-identity",
    "fuse-batchnorm",
    "reduce-mean-to-pool",
    "drop-unused",
    "strip-metadata",
    "shorten-names",
]

TEXT = """g (float[batch,2,4,4] image) => (float[batch,3] logits) {
    n = Shape <start = 0, end = 1> (w)
    zero = Constant <value = float {0.0}> ()
    b = Expand(zero, n)
    c = Conv <pads = [1,1,1,1]> (image, w, b)
    d = BatchNormalization(c, scale, shift, mean, var)
    e = Relu(d)
    i = Identity(e)
    axes = Constant <value_ints = [2, 3]> ()
    m = ReduceMean <keepdims = 0> (i, axes)
    logits = Gemm <transB = 1> (m, fc)}"""


@pytest.fixture
def weights():
    draw = np.random.default_rng(0)
    norm = {k: draw.random(4).astype(np.float32) + 1 for k in ("scale", "shift", "mean", "var")}
    kernel = draw.standard_normal((4, 2, 3, 3)).astype(np.float32)
    return {"w": kernel, "fc": draw.standard_normal((3, 4)).astype(np.float32), **norm}


def test_an_exporters_graph_comes_down_to_its_essence(parse, ops, same, weights):
    before, after = parse(TEXT, **weights), parse(TEXT, **weights)
    outcome = run_passes(after, [PASSES.build(name) for name in NAMES])
    assert ops(after) == ["Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"]
    assert outcome.modified and not outcome.refusals
    same(before, after)


def test_a_second_run_finds_nothing_to_do(parse, weights):
    model = parse(TEXT, **weights)
    passes = [PASSES.build(name) for name in NAMES]
    run_passes(model, passes)
    again = run_passes(model, passes)
    assert not again.modified and not again.changes and not again.refusals


@pytest.mark.parametrize("name", PASSES.names())
def test_every_pass_draws_its_rewrite_and_has_a_name(name):
    made = PASSES.build(name)
    assert PASSES.name_of(made) == name
    drawings = [type(made).__doc__, inspect.getmodule(type(made)).__doc__]
    assert any("becomes" in (text or "") for text in drawings)
