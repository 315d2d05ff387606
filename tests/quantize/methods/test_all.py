"""What every method does with bad input, and with what it cannot change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.core.errors import UserError
from deploypipe.graph.files import to_bytes
from deploypipe.quantize import METHODS

FREE = [name for name in METHODS.names() if not METHODS.get(name).needs_samples]


@pytest.fixture(params=FREE)
def method(request):
    return METHODS.build({request.param: {"ends": True} if request.param == "binary" else {}})


def test_the_static_method_alone_needs_samples():
    assert FREE == ["binary", "dynamic", "half", "weight-only"]
    assert METHODS.get("static").needs_samples


def test_the_result_is_the_same_every_time_and_the_model_stays(method, transformer, job):
    before = to_bytes(transformer)
    first, second = (to_bytes(method.quantize(transformer, job).model) for _ in range(2))
    assert first == second
    assert to_bytes(transformer) == before


def test_a_quantized_model_is_refused(method, parse, job):
    text = """agraph (float[N,2] x) => (float[N,2] y) <float s = {0.1}, uint8 z = {0}>
      { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"""
    with pytest.raises(UserError, match="already quantized.*deploypipe doctor"):
        method.quantize(parse(text), job)


def test_a_half_precision_model_is_refused(method, parse, job):
    text = "agraph (float16[N,2] x) => (float16[N,2] y) { y = Relu(x) }"
    with pytest.raises(UserError, match="'x' is float16; quantization starts from float32"):
        method.quantize(parse(text), job)


def test_a_weight_with_a_nan_is_refused(method, transformer, job):
    transformer.graph.initializers["w"].const_value.numpy()[3, 4] = np.nan
    with pytest.raises(UserError, match="'w' of (MatMul|Gemm).* holds a NaN or an infinity"):
        method.quantize(transformer, job)


def test_a_model_without_weights_is_told(method, parse, job):
    text = "agraph (float[N,2] x) => (float[N,2] y) { [s] y = Softmax(x) }"
    with pytest.raises(UserError, match="no weight can be stored in fewer bits"):
        method.quantize(parse(text), job)


def test_an_old_opset_is_converted_and_said(method, parse, constants, job):
    text = "agraph (float[N,64] x) => (float[N,64] y) { [a] y = MatMul(x, w) }"
    model = constants(parse(text, 6), w=np.random.default_rng(0).normal(size=(64, 64)))
    done = method.quantize(model, job)
    assert "opset 6 became 17" in done.changes[0]
    assert done.model.graph.opset_imports[""] == 17


def test_weights_that_are_graph_inputs_are_not_touched(method, transformer, job):
    weight = transformer.graph.initializers["w"]
    transformer.graph.inputs.append(weight)
    done = method.quantize(transformer, job)
    assert done.model.graph.initializers["w"].const_value.numpy().dtype == np.float32
    assert [value.name for value in done.model.graph.inputs] == ["ids", "w"]


def test_custom_ops_stay(method, transformer, job):
    transformer.graph.node("act").domain = "com.microsoft"
    transformer.graph.node("act").op_type = "Gelu"
    transformer.graph.opset_imports["com.microsoft"] = 1
    done = method.quantize(transformer, job)
    assert "Gelu" in {node.op_type for node in done.model.graph}


def test_a_zero_size_weight_stays(method, parse, constants, job):
    text = """agraph (float[N,64] x) => (float[N,64] y, float[N,0] e) {
      [a] y = MatMul(x, w) [b] e = MatMul(x, none) }"""
    rng = np.random.default_rng(0)
    model = constants(parse(text), w=rng.normal(size=(64, 64)), none=np.zeros((64, 0)))
    done = method.quantize(model, job)
    assert done.model.graph.initializers["none"].const_value.numpy().shape == (64, 0)


def test_a_name_to_keep_in_float_is_kept_or_unknown(method, transformer, job):
    name = "w" if METHODS.name_of(method) == "half" else "up"
    done = method.quantize(transformer, replace(job, keep_float={name: "it was asked for"}))
    assert done.model.graph.initializers["w"].const_value.numpy().dtype == np.float32
    assert any("it was asked for" in line for line in done.refusals)
    with pytest.raises(UserError, match="keep_float names 'upp'"):
        method.quantize(transformer, replace(job, keep_float={"upp": "typo"}))


def test_the_outputs_keep_their_names_and_shapes(method, transformer, job):
    done = method.quantize(transformer, job).model
    assert [(v.name, str(v.shape)) for v in done.graph.outputs] == [("y", "[N,L,8]")]
    assert isinstance(done, ir.Model)
