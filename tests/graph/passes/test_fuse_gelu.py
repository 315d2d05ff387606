from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from deploypipe.graph.files import to_bytes
from deploypipe.graph.passes.fuse_gelu import FuseGelu
from deploypipe.runtime.targets.cpu import Cpu

CONSTANTS = {
    "root": math.sqrt(2),
    "inverse": 1 / math.sqrt(2),
    "one": 1.0,
    "half": 0.5,
    "two": 2.0,
    "three": 3.0,
    "k": 0.044715,
    "q": math.sqrt(2 / math.pi),
}
ERF = {
    "divided, half last": "a = Div(x, root) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)",
    "half first": "a = Div(x, root) b = Erf(a) c = Add(b, one) d = Mul(x, half) y = Mul(d, c)",
    "multiplied": "a = Mul(inverse, x) b = Erf(a) c = Add(one, b) d = Mul(c, x) y = Mul(half, d)",
    "half of the sum": "a = Div(x, root) b = Erf(a) c = Add(b, one) d = Mul(c, half) y = Mul(x, d)",
    "half inside": "a = Mul(x, inverse) b = Erf(a) c = Mul(b, half) d = Add(c, half) y = Mul(x, d)",
    "root computed": "r = Sqrt(two) a = Div(x, r) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Div(d, two)",
}
TANH = {
    "cube by products": "a = Mul(x, x) b = Mul(a, x) c = Mul(b, k) d = Add(x, c) e = Mul(d, q) "
    "f = Tanh(e) h = Add(f, one) i = Mul(x, half) y = Mul(i, h)",
    "cube by power": "b = Pow(x, three) c = Mul(k, b) d = Add(c, x) e = Mul(q, d) "
    "f = Tanh(e) h = Add(one, f) i = Mul(x, h) y = Mul(half, i)",
}


@pytest.fixture
def kernels(tmp_path):
    """What ONNX Runtime makes of a model."""

    def found(model):
        file = tmp_path / "optimized.onnx"
        with Cpu().open(to_bytes(model), optimized=file):
            return [node.op_type for node in onnx.load(file).graph.node]

    return found


def model_of(parse, body: str, opset: int = 20):
    lines = body.replace(") ", ")\n")
    text = f"g (float[N,8] input) => (float[N,8] output) {{ x = Relu(input)\n{lines}\noutput = Abs(y) }}"
    used = {name: np.float32(value) for name, value in CONSTANTS.items() if name in text}
    return parse(text, opset=opset, **used)


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize(("axes", "fuses"), [(1, True), (2, True), (3, False)])
def test_constants_of_more_axes_than_the_tensor_would_change_its_rank(
    parse, same, opset, axes, fuses
):
    def build():
        model = model_of(parse, ERF["multiplied"], opset)
        if axes > 2:
            model.graph.outputs[0].shape = ir.Shape([1, "N", 8])
        for value in model.graph.initializers.values():
            array = value.const_value.numpy().reshape((1,) * axes)
            value.const_value = ir.tensor(array, name=value.name)
            value.shape = ir.Shape(array.shape)
        return model

    after = build()
    assert FuseGelu().call(after).modified is fuses
    same(build(), after)


@pytest.mark.parametrize("body", ERF.values(), ids=ERF)
def test_gelu_is_found_however_it_is_written(parse, ops, same, body):
    before, after = model_of(parse, body), model_of(parse, body)
    assert FuseGelu()(after).modified
    assert ops(after) == ["Relu", "Gelu", "Abs"]
    assert after.graph[1].attributes.get_string("approximate", "none") == "none"
    same(before, after)


@pytest.mark.parametrize("body", TANH.values(), ids=TANH)
def test_its_approximation_is_told_apart(parse, ops, same, body):
    before, after = model_of(parse, body), model_of(parse, body)
    assert FuseGelu()(after).modified
    assert ops(after) == ["Relu", "Gelu", "Abs"]
    assert after.graph[1].attributes.get_string("approximate") == "tanh"
    same(before, after)


@pytest.mark.parametrize("body", ERF.values(), ids=ERF)
def test_before_opset_20_it_takes_the_form_that_the_runtime_fuses(parse, ops, same, kernels, body):
    before, after = model_of(parse, body, 17), model_of(parse, body, 17)
    FuseGelu()(after)
    assert "Gelu" in kernels(after)
    assert not FuseGelu()(after).modified
    same(before, after)


def test_the_approximation_needs_opset_20(parse):
    model = model_of(parse, TANH["cube by power"], 17)
    outcome = FuseGelu()(model)
    assert not outcome.modified and "opset 20" in outcome.refusals[0]


@pytest.mark.parametrize(
    "body",
    [
        ERF["half inside"].replace("inverse", "half"),
        ERF["multiplied"].replace("half", "two"),
        "a = Div(x, root) b = Erf(a) c = Add(b, one) d = Mul(input, c) y = Mul(d, half)",
        "a = Div(x, v) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)",
    ],
    ids=["another slope", "twice", "two tensors", "a vector"],
)
def test_what_only_looks_like_it_stays(parse, body):
    text = body.replace(") ", ")\n")
    model = parse(
        f"g (float[N,8] input) => (float[N,8] y) {{ x = Relu(input)\n{text} }}",
        **{name: np.float32(value) for name, value in CONSTANTS.items() if name in body},
        **({"v": np.full(8, math.sqrt(2), np.float32)} if "v)" in body else {}),
    )
    assert not FuseGelu()(model).modified


def test_a_tensor_inside_that_others_read_keeps_it(parse):
    body = ERF["half first"].replace(") ", ")\n")
    text = f"g (float[N,8] x) => (float[N,8] y, float[N,8] z) {{ {body}\nz = Abs(d) }}"
    used = {name: np.float32(CONSTANTS[name]) for name in ("root", "one", "half")}
    assert not FuseGelu()(parse(text, **used)).modified
