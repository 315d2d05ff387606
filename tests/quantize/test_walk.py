from __future__ import annotations

import numpy as np
import pytest

from deploypipe.quantize.correction import DeclinedError
from deploypipe.quantize.signal import outputs_of
from deploypipe.quantize.walk import Walk, affordable

X = np.random.default_rng(0).normal(size=(5, 1, 2, 2)).astype(np.float32)
SAMPLES = [{"x": x[None]} for x in X]


def test_pieces_give_what_the_whole_gives(conv_net, target) -> None:
    walk = Walk(conv_net, SAMPLES, target)
    for name in ("t", "p", "y"):
        walk.after(name)
    (expected,) = outputs_of([conv_net], SAMPLES, target)
    for held, answer in zip(walk.held, expected, strict=True):
        np.testing.assert_allclose(held["y"], answer["y"], rtol=1e-5)


def test_only_what_is_still_to_be_read_is_held(conv_net, target) -> None:
    walk = Walk(conv_net, SAMPLES, target)
    walk.before("t")
    assert list(walk.held[0]) == ["x"]
    walk.after("t")
    assert list(walk.held[0]) == ["t"]
    walk.before("p")
    assert list(walk.held[0]) == ["r"]


def test_what_is_put_in_place_is_what_comes_next(conv_net, target) -> None:
    walk = Walk(conv_net, SAMPLES, target)
    walk.after("t")
    walk.held[0]["t"] = np.full_like(walk.held[0]["t"], -1)
    walk.after("r")
    assert not walk.held[0]["r"].any() and walk.held[1]["r"].any()


def test_a_constant_can_be_replaced_before_its_reader_runs(conv_net, target) -> None:
    model = conv_net.clone()
    walk = Walk(model, SAMPLES, target)
    walk.before("y")
    head = next(node for node in model.graph if node.outputs[0].name == "y")
    walk.store(head, 1, np.zeros((2, 2), np.float32))
    walk.after("y")
    np.testing.assert_array_equal(walk.held[0]["y"], [[0.25, 0]])


def test_constants_are_computed_where_they_are_read(parse, target) -> None:
    text = """agraph (float[N,2] x) => (float[N,2] y) <float[2] w = {1.0, 2.0}> {
      v = Neg(w) c = Constant<value = float[2] {3.0, 4.0}> () t = Add(x, v) y = Mul(t, c) }"""
    walk = Walk(parse(text), [{"x": np.zeros((1, 2), np.float32)}], target)
    walk.after("t")
    assert list(walk.held[0]) == ["t"]
    walk.after("y")
    np.testing.assert_array_equal(walk.held[0]["y"], [[-3, -8]])


def test_subgraphs_see_what_is_around_them(parse, target) -> None:
    text = """agraph (float[N,2] x, bool c) => (float[N,2] y) <float[2] w = {1.0, 2.0}> {
      t = Add(x, w) u = Neg(x)
      y = If (c) <then_branch = a () => (float[N,2] p) { p = Mul(t, w) },
                  else_branch = b () => (float[N,2] q) { q = Relu(u) }> }"""
    samples = [{"x": np.float32([[1, 1]]), "c": np.array(flag)} for flag in (True, False)]
    walk = Walk(parse(text), samples, target)
    walk.after("t")
    walk.after("y")
    np.testing.assert_array_equal(walk.held[0]["y"], [[2, 6]])
    np.testing.assert_array_equal(walk.held[1]["y"], [[0, 0]])


def test_samples_may_differ_in_shape(parse, target) -> None:
    model = parse("agraph (float[N,L] x) => (float y) { t = Relu(x) y = Neg(t) }")
    walk = Walk(model, [{"x": np.ones((1, n), np.float32)} for n in (2, 3)], target)
    walk.after("t")
    walk.after("y")
    assert [held["y"].shape for held in walk.held] == [(1, 2), (1, 3)]


def test_an_input_with_a_default_is_a_constant_unless_it_is_fed(parse, target) -> None:
    text = """agraph (float[N,2] x, float[2] w) => (float[N,2] y) <float[2] w = {1.0, 2.0}> {
      t = Add(x, w) y = Mul(t, w) }"""
    x = np.zeros((1, 2), np.float32)
    for sample, answer in (({"x": x}, [1, 4]), ({"x": x, "w": np.float32([3, 3])}, [9, 9])):
        walk = Walk(parse(text), [sample], target)
        walk.after("t")
        walk.after("y")
        np.testing.assert_array_equal(walk.held[0]["y"], [answer])


def test_the_models_own_functions_come_along(target) -> None:
    import onnx_ir as ir

    model = ir.from_onnx_text("""<ir_version: 8, opset_import: ["": 17, "my": 1]>
      agraph (float[N,2] x) => (float[N,2] y) { t = my.Twice(x) y = my.Twice(t) }
      <domain: "my", opset_import: ["": 17]> Twice (a) => (b) { b = Add(a, a) }""")
    walk = Walk(model, [{"x": np.ones((1, 2), np.float32)}], target)
    walk.after("t")
    walk.after("y")
    np.testing.assert_array_equal(walk.held[0]["y"], [[4, 4]])


def test_a_piece_that_nobody_reads_is_passed_over(parse, target) -> None:
    text = "agraph (float[N,2] x) => (float[N,2] y) { u = Relu(x) t = Neg(x) y = Neg(t) }"
    walk = Walk(parse(text), [{"x": np.ones((1, 2), np.float32)}], target)
    walk.before("t")
    walk.after("y")
    np.testing.assert_array_equal(walk.held[0]["y"], [[1, 1]])


def test_sequences_cannot_be_held_and_that_is_said(parse, target) -> None:
    text = """agraph (float[N,2] x) => (float[N,2] y) <int64 zero = {0}> {
      s = SequenceConstruct(x, x) t = Neg(x) u = SequenceAt(s, zero) y = Add(t, u) }"""
    walk = Walk(parse(text), [{"x": np.ones((1, 2), np.float32)}], target)
    with pytest.raises(DeclinedError, match="'s' is no tensor"):
        walk.after("t")


def test_large_tensors_are_held_of_fewer_samples() -> None:
    assert affordable(SAMPLES, 100) == SAMPLES
    assert len(affordable(SAMPLES, 10**9)) == 4
