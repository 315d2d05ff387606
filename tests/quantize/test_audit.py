from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from deploypipe.quantize.audit import audit

X = [[[[-1, 0], [1, 2]]]]


def test_a_model_that_fuses_wholly_has_nothing_unfused(conv_net, quantize, target) -> None:
    result = quantize(conv_net, X)
    checked = audit(result.model, result.plan, target)
    assert not checked.unfused
    assert checked.kernels["QLinearConv"] == checked.kernels["QGemm"] == 1
    assert checked.kernels["QLinearGlobalAveragePool"] == 1
    assert "DequantizeLinear" not in checked.kernels


def test_units_that_the_runtime_runs_in_float_are_named(conv_net, quantize, target) -> None:
    plan = quantize(conv_net, X).plan
    checked = audit(conv_net, plan, target)  # the float model, so nothing can have fused
    assert {"conv", "pool", "head"} <= checked.unfused.keys()
    assert "did not fuse" in checked.unfused["conv"]


def test_a_gemm_without_its_zero_point_is_found_out(conv_net, quantize, target) -> None:
    result = quantize(conv_net, X)
    _drop_zero_point(result.model, "head")
    checked = audit(result.model, result.plan, target)
    assert list(checked.unfused) == ["head"]
    assert "Gemm" in checked.unfused["head"]


def test_bytes_that_are_moved_in_float_are_found_out(conv_net, quantize, target) -> None:
    result = quantize(conv_net, X)
    flat = next(node for node in result.model.graph if node.name == "flat")
    quantizer = flat.inputs[0].producer().inputs[0].producer()
    other = ir.Value(name="other", const_value=ir.tensor([0.5], ir.DataType.FLOAT, name="other"))
    result.model.graph.register_initializer(other)
    back = flat.inputs[0].producer()
    assert quantizer.op_type == "QuantizeLinear"
    quantizer.replace_input_with(1, other)
    back.replace_input_with(1, other)
    assert "flat" in audit(result.model, result.plan, target).unfused


def test_the_audited_model_is_not_renamed(conv_net, quantize, target) -> None:
    result = quantize(conv_net, X)
    audit(result.model, replace(result.plan), target)
    assert "conv" in [node.name for node in result.model.graph]


def _drop_zero_point(model: ir.Model, reader: str) -> None:
    node = next(node for node in model.graph if node.name == reader)
    node.inputs[1].producer().resize_inputs(2)
