from __future__ import annotations

import numpy as np
import onnx_ir as ir

from deploypipe.graph.passes.tie_weights import TieWeights

TEXT = """g (float[N,4] x) => (float[N,4] y) {
    a = MatMul (x, v)
    b = MatMul (a, w)
    y = MatMul (b, u)}"""
WEIGHT = np.arange(16, dtype=np.float32).reshape(4, 4) / 16


def test_equal_weights_are_stored_once(parse, same):
    given = {"v": WEIGHT, "w": WEIGHT.copy(), "u": WEIGHT.T.copy()}
    before, after = (parse(TEXT, **given) for _ in range(2))
    outcome = TieWeights()(after)
    assert outcome.modified and outcome.changes == ["1 stored twice, now once"]
    assert set(after.graph.initializers) == {"v", "u"}
    same(before, after)


def test_equal_bytes_of_another_shape_stay_apart(parse):
    text = """g (float[N,4] x) => (float[N,4] y) {
        a = MatMul (x, v)
        y = Add (a, w)}"""
    zeros = np.zeros((4, 4), np.float32)
    model = parse(text, v=zeros, w=zeros[:1])
    assert not TieWeights()(model).modified


def test_a_weight_that_is_an_input_stays(parse):
    text = "g (float[N,4] x, float[4,4] v) => (float[N,4] y) {a = MatMul (x, v)\ny = MatMul (a, w)}"
    model = parse(text, v=WEIGHT, w=WEIGHT)
    assert not TieWeights()(model).modified


def test_weights_that_do_not_lie_row_by_row_are_compared_too(parse):
    model = parse(TEXT, v=WEIGHT, w=WEIGHT.T.copy(), u=WEIGHT * 2)
    turned = ir.Tensor(np.asfortranarray(WEIGHT), name="w")
    model.graph.initializers["w"].const_value = turned
    assert TieWeights()(model).changes == ["1 stored twice, now once"]
