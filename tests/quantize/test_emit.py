from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from deploypipe.graph.files import to_bytes

X = [[[[-5.1, 0], [10, 20.4]]]]


def lines(model: ir.Model) -> list[str]:
    """``output = Op(inputs)`` for every node."""
    return [
        f"{node.outputs[0].name} = {node.op_type}({', '.join(str(v.name) for v in node.inputs)})"
        for node in model.graph
    ]


def arrays(model: ir.Model) -> dict[str | None, np.ndarray]:
    return {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}


def test_the_whole_of_a_small_net(conv_net, quantize) -> None:
    model = quantize(conv_net, X).model
    assert lines(model) == [
        "q0 = QuantizeLinear(x, s0, z0)",
        "d0 = DequantizeLinear(q0, s0, z0)",
        "d4 = DequantizeLinear(w0, s3)",
        "d5 = DequantizeLinear(w1, s4, z2)",
        "d6 = DequantizeLinear(b0, s5)",
        "t = Conv(d0, d4, b)",
        "r = Relu(t)",
        "q1 = QuantizeLinear(r, s1)",
        "d1 = DequantizeLinear(q1, s1)",
        "p = GlobalAveragePool(d1)",
        "q2 = QuantizeLinear(p, s2, z1)",
        "d2 = DequantizeLinear(q2, s2, z1)",
        "f = Flatten(d2)",
        "q3 = QuantizeLinear(f, s2, z1)",
        "d3 = DequantizeLinear(q3, s2, z1)",
        "y = Gemm(d3, d5, d6)",
    ]


def test_the_stored_numbers_of_a_small_net(conv_net, quantize) -> None:
    stored = arrays(quantize(conv_net, X).model)
    assert stored["w0"].tolist() == [[[[127]]], [[[-127]]]]
    assert stored["w0"].dtype == np.int8
    assert stored["w1"].tolist() == [[127, 0], [64, -127]]
    assert stored["b"].tolist() == [0.5, 1.0]  # the Conv's, float
    scales = stored["s2"] * np.float32([1 / 127, 1 / 127])
    assert stored["b0"].tolist() == [round(0.25 / float(scales[0])), 0]
    assert stored["b0"].dtype == np.int32
    assert not {"w", "v", "c"} & stored.keys()


def test_the_source_stays_as_it_is(conv_net, quantize) -> None:
    before = to_bytes(conv_net)
    quantize(conv_net, X)
    assert to_bytes(conv_net) == before


def test_the_result_is_valid_onnx(conv_net, quantize) -> None:
    proto = onnx.load_from_string(to_bytes(quantize(conv_net, X).model))
    onnx.checker.check_model(proto, full_check=True)
    assert [(v.name, v.type) for v in proto.graph.output] == [
        (v.name, v.type) for v in onnx.load_from_string(to_bytes(conv_net)).graph.output
    ]


def test_added_nodes_have_no_name_and_values_no_description(conv_net, quantize) -> None:
    proto = onnx.load_from_string(to_bytes(quantize(conv_net, X).model))
    names = {node.op_type: node.name for node in proto.graph.node}
    assert names["QuantizeLinear"] == names["DequantizeLinear"] == ""
    assert names["Conv"] == "conv"
    assert not proto.graph.value_info


def test_the_exporters_notes_are_dropped(conv_net, quantize) -> None:
    for node in conv_net.graph:
        node.metadata_props["pkg.torch.onnx.stack_trace"] = "line\n" * 100
    model = quantize(conv_net, X).model
    assert not any(node.metadata_props for node in model.graph)


def test_added_names_avoid_those_of_the_model(parse, quantize) -> None:
    text = """agraph (float[N,1,1,1] q0) => (float[N,M] d0) <float[1,1,1,1] s0 = {1.0}>
      { w0 = Conv(q0, s0) d0 = Flatten(w0) }"""
    model = quantize(parse(text), [[[[1]]]]).model
    names = [out.name for node in model.graph for out in node.outputs]
    names += [*model.graph.initializers, "q0"]
    assert max(Counter(names).values()) == 1


def test_equal_constants_are_stored_once(parse, quantize) -> None:
    text = """agraph (float[N,1,1,1] x) => (float[N,M] y)
      <float[1,1,1,1] v = {1.0}, float[1,1,1,1] w = {1.0}>
      { t = Conv(x, v) u = Conv(t, w) y = Flatten(u) }"""
    stored = arrays(quantize(parse(text), [[[[-1]]], [[[1]]]]).model)
    assert sorted(array.dtype.name for array in stored.values()) == [
        "float32",  # the scale of x, t and u
        "float32",  # the scale of both weights
        "int8",
        "uint8",
    ]


def test_a_float_reader_of_a_float_tensor_keeps_the_exact_value(parse, quantize) -> None:
    text = """agraph (float[N,2] x) => (float[N,2] y, float[N,2] z)
      <float[2,2] m = {1.0, 2.0, 3.0, 4.0}> { y = MatMul(x, m) z = Sigmoid(x) }"""
    model = quantize(parse(text), [[1, 2]]).model
    readers = {node.op_type: node.inputs[0].name for node in model.graph}
    assert readers["Sigmoid"] == "x"
    assert readers["MatMul"] == "d0"


def test_a_float_reader_of_an_8_bit_result_takes_the_rounded_value(parse, quantize) -> None:
    text = """agraph (float[N,1,2,2] x) => (float[N,1,2,2] y)
      <float[1,1,1,1] w = {2.0}> { t = Conv(x, w) y = Sigmoid(t) }"""
    result = quantize(parse(text), [[[[1, 2], [3, 4]]]])
    readers = {node.op_type: node.inputs[0].name for node in result.model.graph}
    assert readers["Sigmoid"].startswith("d")
    assert result.audit.kernels["QLinearConv"] == 1


def test_a_weight_that_a_float_node_reads_too_is_kept_for_it(parse, quantize) -> None:
    text = """agraph (float[2,2] x) => (float[2,2] y, float[2,2] z)
      <float[2,2] m = {1.0, 2.0, 3.0, 4.0}> { y = MatMul(x, m) z = Mul(x, m) }"""
    stored = arrays(quantize(parse(text), [[1, 2], [3, 4]]).model)
    assert stored["m"].tolist() == [[1, 2], [3, 4]]


def test_tied_weights_are_stored_once(parse, quantize) -> None:
    text = """agraph (float[N,2] x) => (float[N,2] y)
      <float[2,2] m = {1.0, 2.0, 3.0, 4.0}> { t = MatMul(x, m) u = Sigmoid(t) y = MatMul(u, m) }"""
    model = quantize(parse(text), [[1, 2]]).model
    assert sum(array.dtype == np.int8 and array.ndim == 2 for array in arrays(model).values()) == 1
    weights = {node.inputs[1].name for node in model.graph if node.op_type == "MatMul"}
    assert len(weights) == 1


@pytest.mark.parametrize("weight", ["0.0, 0.0", "1e-30, 1.0", "0.0, 1.0"])
def test_dead_channels_keep_their_bias(parse, quantize, target, weight: str) -> None:
    text = """agraph (float[N,1,1,1] x) => (float[N,2,1,1] y)
      <float[2,1,1,1] w = {WEIGHT}, float[2] b = {3.0, 0.0}, float[1] one = {1.0}>
      { t = Conv(x, w, b) y = Mul(t, one) }"""
    x = np.float32([[[[0.5]]], [[[1.0]]]])
    result = quantize(parse(text.replace("WEIGHT", weight)), x)
    with target.open(to_bytes(result.model)) as answer:
        got = answer({"x": x})["y"]
    assert got[:, 0].ravel().tolist() == pytest.approx([3.0, 3.0], abs=0.013)
