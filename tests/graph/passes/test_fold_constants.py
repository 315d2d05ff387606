from __future__ import annotations

import numpy as np

from deploypipe.graph.passes.fold_constants import FoldConstants


def test_a_bias_made_by_nodes_becomes_an_initializer_of_its_name(parse, ops, same):
    text = """g (float[N,2] x) => (float[N,3] y) {
        n = Shape <start = 0, end = 1> (w)
        zero = Constant <value = float {1.0}> ()
        like = CastLike(zero, x)
        b = Expand(like, n)
        y = Gemm <transB = 1> (x, w, b)}"""
    weight = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    before, after = parse(text, w=weight), parse(text, w=weight)
    outcome = FoldConstants()(after)
    assert ops(after) == ["Gemm"]
    assert after.graph.initializers["b"].const_value.numpy().tolist() == [1, 1, 1]
    assert outcome.changes == ["folded 4 nodes: 1 CastLike, 1 Constant, 1 Expand, 1 Shape"]
    same(before, after)


def test_a_second_run_changes_nothing(parse):
    model = parse(
        "g (float[N,2] x) => (float[N,2] y) {t = Neg(w)\n y = Add(x, t)}",
        w=np.array([1, 2], np.float32),
    )
    assert FoldConstants()(model).modified
    again = FoldConstants()(model)
    assert not again.modified and not again.changes and not again.refusals


def test_integer_weights_are_not_turned_back_into_floats(parse, ops):
    model = parse(
        """g (float[N,2] x) => (float[N,3] y) {
        w = DequantizeLinear(q, s)
        y = MatMul(x, w)}""",
        q=np.ones((2, 3), np.int8),
        s=np.float32(0.5),
    )
    outcome = FoldConstants()(model)
    assert ops(model) == ["DequantizeLinear", "MatMul"] and not outcome.modified


def test_a_result_that_would_bloat_the_file_is_kept_with_a_reason(parse, ops):
    text = "g (float[N,1000] x) => (float[N,1000] y) {t = Expand(c, n)\n y = Add(x, t)}"
    weights = {"c": np.ones(1, np.float32), "n": np.array([1000])}
    model = parse(text, **weights)
    outcome = FoldConstants(limit=999)(model)
    assert ops(model) == ["Expand", "Add"] and not outcome.modified
    assert "kept Expand" in outcome.refusals[0] and "999 elements" in outcome.refusals[0]
    assert FoldConstants(limit=1000)(parse(text, **weights)).modified


def test_a_large_weight_may_be_transposed_once(parse, ops):
    model = parse(
        "g (float[N,300] x) => (float[N,300] y) {t = Transpose <perm=[1,0]> (w)\n y = MatMul(x, t)}",
        w=np.ones((300, 300), np.float32),
    )
    FoldConstants(limit=10)(model)
    assert ops(model) == ["MatMul"]


def test_an_initializer_that_is_an_input_is_no_constant(parse, ops):
    model = parse(
        "g (float[2] x, float[2] w) => (float[2] y) {t = Neg(w)\n y = Add(x, t)}",
        w=np.ones(2, np.float32),
    )
    assert not FoldConstants()(model).modified
    assert ops(model) == ["Neg", "Add"]
