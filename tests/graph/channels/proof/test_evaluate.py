"""Whole graphs in float64: what is widened, what is freed, and what is refused."""

from __future__ import annotations

import gc
import weakref

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from deploypipe.graph.channels.proof.evaluate import evaluate64
from deploypipe.graph.channels.proof.reference import CannotEvaluate
from deploypipe.graph.files import to_bytes

THIRD = np.float32(1) / np.float32(3)
X = np.linspace(-2, 2, 6).astype(np.float32).reshape(2, 3)


def test_a_cast_to_a_narrow_float_does_not_round(parse):
    text = """g (float[2,3] x) => (float[2,3] y) {
        h = Cast <to = 10> (x)
        b = Cast <to = 16> (h)
        y = Cast <to = 1> (b)
    }"""
    x = X.astype(np.float64) / 3
    y = evaluate64(parse(text), {"x": x})["y"]
    assert y.dtype == np.float64
    assert (y == x).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
def test_weights_count_as_they_are_stored(dtype, parse):
    kind = {"float16": "float16", "float32": "float"}.get(np.dtype(dtype).name, "bfloat16")
    w = np.full((3, 4), THIRD).astype(dtype)
    model = parse(f"g ({kind}[2,3] x) => ({kind}[2,4] y) {{ y = MatMul(x, w) }}", w=w)
    x = X.astype(dtype)
    y = evaluate64(model, {"x": x})["y"]
    np.testing.assert_array_equal(y, x.astype(np.float64) @ w.astype(np.float64))


def test_constants_inside_the_graph_are_widened(parse):
    text = """g (float[2,3] x) => (float[2,3] y) {
        c = Constant <value_float = 0.25> ()
        s = Shape(x)
        f = ConstantOfShape <value = float[1] {0.5}> (s)
        z = ConstantOfShape(s)
        a = Add(x, c)
        b = Add(a, f)
        y = Add(b, z)
    }"""
    y = evaluate64(parse(text), {"x": X})["y"]
    np.testing.assert_array_equal(y, X.astype(np.float64) + 0.75)


def test_an_op_that_is_a_function_is_computed_in_double(parse):
    model = parse("g (float[2,3] x) => (float[2,3] y) { y = Mish(x) }")
    wide = X.astype(np.float64)
    y = evaluate64(model, {"x": X})["y"]
    np.testing.assert_allclose(y, wide * np.tanh(np.log1p(np.exp(wide))), rtol=1e-13)


def test_a_branch_reads_tensors_from_outside_and_is_widened(parse):
    text = """g (float[2,3] x, bool c) => (float[2,3] y) {
        t = Neg(x)
        u = If (c) <
            then_branch = a () => (float[2,3] p) {
                k = Constant <value_float = 0.1> ()
                s = Shape(t)
                z = ConstantOfShape(s)
                m = Mul(t, k)
                p = Add(m, z)
            },
            else_branch = b () => (float[2,3] q) { q = Identity(x) }
        >
        y = Identity(u)
    }"""
    tenth = np.float64(np.float32(0.1))
    for condition, expected in ((True, -X.astype(np.float64) * tenth), (False, X)):
        y = evaluate64(parse(text), {"x": X, "c": np.array(condition)})["y"]
        np.testing.assert_array_equal(y, expected)


def test_an_op_that_the_reference_rounds_is_refused_in_a_branch_too(parse):
    text = """g (float[2,3] x, bool c) => (float[2,3] y) {
        y = If (c) <
            then_branch = a () => (float[2,3] p) { p = Erf(x) },
            else_branch = b () => (float[2,3] q) { q = Neg(x) }
        >
    }"""
    with pytest.raises(CannotEvaluate, match="float32"):
        evaluate64(parse(text), {"x": X, "c": np.array(True)})


def test_the_models_own_functions_are_run():
    text = """<ir_version: 10, opset_import: ["" : 20, "mine" : 1]>
    g (float[2,3] x) => (float[2,3] y) { y = mine.twice(x) }
    <domain: "mine", opset_import: ["" : 20]>
    twice (a) => (b) { b = Add(a, a) }"""
    model = ir.serde.deserialize_model(onnx.parser.parse_model(text))
    np.testing.assert_array_equal(evaluate64(model, {"x": X})["y"], 2 * X)
    assert model.functions


def test_a_default_input_need_not_be_fed(parse):
    model = parse("g (float[2,3] x, float[3] w) => (float[2,3] y) { y = Mul(x, w) }")
    model.graph.inputs[1].const_value = ir.tensor(np.array([1, 2, 3], np.float32), name="w")
    model.graph.initializers["w"] = model.graph.inputs[1]
    np.testing.assert_array_equal(evaluate64(model, {"x": X})["y"], X * [1, 2, 3])
    fed = evaluate64(model, {"x": X, "w": np.zeros(3, np.float32)})["y"]
    assert (fed == 0).all()


def test_an_input_or_a_constant_can_be_an_output(parse):
    model = parse("g (float[2,3] x) => (float[2,3] x, float[1] w) { n = Neg(x) }", w=[THIRD])
    given = evaluate64(model, {"x": X})
    assert {name: array.dtype for name, array in given.items()} == {"x": "f8", "w": "f8"}
    np.testing.assert_array_equal(given["x"], X)


def test_several_outputs_of_a_node_are_kept(parse):
    text = """g (float[1,1,4] x) => (float[1,1,2] y, int64[1,1,2] i) {
        y, i = MaxPool <kernel_shape = [2], strides = [2]> (x)
    }"""
    given = evaluate64(parse(text), {"x": np.array([[[1, 5, 7, 2]]], np.float32)})
    assert given["y"].tolist() == [[[5, 7]]]
    assert given["i"].tolist() == [[[1, 2]]]


def test_a_missing_input_is_told_apart_from_zero(parse):
    model = parse("g (float[2,3] x) => (float[2,3] y) { y = Clip(x, , top) }", top=np.float32(1))
    np.testing.assert_array_equal(evaluate64(model, {"x": X})["y"], np.minimum(X, 1))


def test_a_tensor_is_let_go_behind_its_last_reader(parse):
    text = """g (float[2,3] x) => (float[2,3] y) {
        a = Neg(x)
        b = Exp(a)
        c = Add(a, b)
        y = Neg(c)
    }"""
    seen, alive = {}, []

    def watch(node: ir.Node, inputs: list, outputs: list) -> None:
        seen[node.outputs[0].name] = weakref.ref(outputs[0])
        gc.collect()
        alive.append({name for name, tensor in seen.items() if tensor() is not None})

    evaluate64(parse(text), {"x": X}, watch)
    assert alive == [{"a"}, {"a", "b"}, {"a", "b", "c"}, {"c", "y"}]


def test_the_model_stays_as_it_is(parse):
    model = parse("g (float[2,3] x) => (float[2,3] y) { y = Cast <to = 1> (x) }")
    content = to_bytes(model)
    evaluate64(model, {"x": X})
    assert to_bytes(model) == content


@pytest.mark.parametrize(
    ("node", "op", "why"),
    [
        ("y = RandomNormalLike(x)", "RandomNormalLike", "random"),
        ("y = mine.Thing(x)", "mine.Thing", "unknown|not specified"),
        ('y = Einsum <equation = "not one"> (x)', "Einsum", "reference"),
        ("y = Add(x, nowhere)", "the graph's input", "no value"),
    ],
)
def test_what_cannot_be_evaluated_is_named_with_a_reason(node, op, why):
    text = f"""<ir_version: 10, opset_import: ["" : 20]>
    g (float[2,3] x, float[2,3] nowhere) => (float[2,3] y) {{ {node} }}"""
    model = ir.serde.deserialize_model(onnx.parser.parse_model(text))
    with pytest.raises(CannotEvaluate, match=why) as caught:
        evaluate64(model, {"x": X})
    assert caught.value.op == op


def test_an_op_that_the_reference_rounds_is_refused(parse):
    text = "g (float[1,1,2,2] x, float[1,1,1,2] at) => (float[1,1,1,1] y) { y = GridSample(x, at) }"
    feeds = {"x": np.ones((1, 1, 2, 2), np.float32), "at": np.zeros((1, 1, 1, 2), np.float32)}
    with pytest.raises(CannotEvaluate, match="float32"):
        evaluate64(parse(text), feeds)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_elements_are_gathered_as_onnx_runtime_does(same_as_onnxruntime, axis):
    rng = np.random.default_rng(0)
    x, index = rng.standard_normal((4, 5)), rng.integers(0, 4, (3, 4))
    arrays = {"x": x.astype(np.float32), "i": index}
    same_as_onnxruntime("GatherElements", arrays, axis=axis)
