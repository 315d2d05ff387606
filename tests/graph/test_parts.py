from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from deploypipe.graph.parts import SMALL, parts_of
from deploypipe.runtime.targets.cpu import Cpu

WEIGHT = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
TEXT = "g (float[N,64] x) => (float[N,64] y) { a = MatMul(x, w)\ny = Add(a, b) }"


@pytest.fixture
def model(parse):
    model = parse(TEXT, w=WEIGHT, b=np.arange(64, dtype=np.float32))
    model.graph.initializers["w"].const_value = ir.Tensor(WEIGHT, name="w")
    return model


def test_large_weights_are_shared_and_small_ones_stay_in_the_graph(model):
    parts = parts_of(model)
    assert list(parts.weights) == ["w"]
    assert parts.weights["w"] is model.graph.initializers["w"].const_value.numpy()
    assert len(parts.graph) < SMALL
    stored = {one.name: one for one in onnx.load_from_string(parts.graph).graph.initializer}
    assert stored["w"].data_location == onnx.TensorProto.EXTERNAL
    assert stored["b"].data_location == onnx.TensorProto.DEFAULT


def test_the_model_stays_as_it_is(model):
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    parts_of(model)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("lean", [False, True])
def test_a_session_of_parts_answers_as_the_model(model, evaluate, lean):
    x = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
    with Cpu(threads=1).open(parts_of(model, lean)) as session:
        answer = session({"x": x})
    np.testing.assert_allclose(answer["y"], evaluate(model, {"x": x})["y"], rtol=1e-4, atol=1e-4)


def test_weights_that_do_not_lie_row_by_row_are_copied(model):
    turned = np.asfortranarray(WEIGHT)
    model.graph.initializers["w"].const_value = ir.Tensor(turned, name="w")
    held = parts_of(model).weights["w"]
    assert held.flags.c_contiguous and np.array_equal(held, WEIGHT)


def test_a_weight_that_is_an_input_or_an_output_stays_in_the_graph(parse):
    text = "g (float[N,64] x, float[64,64] w) => (float[N,64] y) { y = MatMul(x, w) }"
    assert not parts_of(parse(text, w=WEIGHT)).weights


def test_a_body_may_read_them(parse):
    text = """g (bool c, float[N,64] x) => (float[N,64] y) {
        y = If (c) <
            then_branch = t () => (float[N,64] p) { p = MatMul(x, w) },
            else_branch = e () => (float[N,64] q) { q = Identity(x) }>}"""
    x = np.ones((2, 64), np.float32)
    with Cpu(threads=1).open(parts_of(parse(text, w=WEIGHT))) as session:
        answer = session({"c": np.array(True), "x": x})
    np.testing.assert_allclose(answer["y"], x @ WEIGHT, rtol=1e-4, atol=1e-4)


def test_the_graph_that_the_runtime_made_can_be_read_back(model, tmp_path):
    file = tmp_path / "optimized.onnx"
    with Cpu(threads=1).open(parts_of(model), optimized=file):
        pass
    assert {node.op_type for node in ir.load(file).graph} <= {"Gemm", "MatMul", "Add"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["optimized.onnx"]


def test_a_large_model_is_packed_only_if_asked(model, monkeypatch):
    assert not parts_of(model).lean
    monkeypatch.setattr("deploypipe.graph.parts.HELD_ONCE", WEIGHT.nbytes)
    assert parts_of(model).lean and not parts_of(model, lean=False).lean
