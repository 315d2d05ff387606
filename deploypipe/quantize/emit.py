"""Carry out a plan: put QuantizeLinear and DequantizeLinear around units, store weights as int8.

    x -> Conv(w, b) -> Relu -> y          becomes
    x -> Q -> DQ -> Conv(DQ(w8), b) -> Relu -> Q -> DQ -> y

Every form is the smallest that ONNX Runtime 1.31 was measured to fuse:

* a zero point that is 0 is left out, except beside a Gemm and beside what only moves bytes
  (Reshape, MaxPool ...), whose rules want to see it;
* weights have no zero point, except those of a Gemm;
* the bias of a Conv stays float (the runtime turns it into int32 when it loads the model), that of
  a Gemm is int32 with the scale of the products, or it would not fuse where its output is float;
* equal scales and zero points are stored once; tensors and nodes that are added have short names.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ClearMetadataAndDocStringPass

from deploypipe.graph.constants import constant_of
from deploypipe.quantize.params import WeightParams, bias_scales, quantized_bias
from deploypipe.quantize.plan import QuantPlan
from deploypipe.quantize.profile import Kind
from deploypipe.quantize.rewriting import Rewriter
from deploypipe.quantize.units import Unit


def emit(model: ir.Model, plan: QuantPlan) -> ir.Model:
    """A quantized copy; ``model`` stays as it is.

    Descriptions of intermediate values (``value_info``) and notes of the exporter are dropped.
    """
    editor = _Editor(model, plan)
    for name in plan.tensors:
        editor.round(name)
    for unit in plan.units:
        if unit.weight is not None:
            editor.store_weight(unit)
    made = editor.finish()
    ClearMetadataAndDocStringPass()(made)
    _drop_value_info(made)
    return made


class _Editor(Rewriter):
    """Carries out ``plan`` on a copy of ``model``."""

    def __init__(self, model: ir.Model, plan: QuantPlan) -> None:
        super().__init__(model)
        self.plan = plan
        self.made = {unit.output for unit in plan.units}
        self.readers = {(unit.result, name) for unit in plan.units for name in unit.inputs}
        self.weights: dict[tuple[str, int, bool], ir.Value] = {}
        strict = [u for u in plan.units if u.kind in (Kind.LINEAR, Kind.MOVE)]
        self.explicit = {name for u in strict for name in u.inputs}
        self.explicit |= {u.output for u in strict if u.kind is Kind.MOVE}

    def round(self, name: str) -> None:
        """value -> Q -> DQ, and its readers take what comes out.

        All of them where a quantized unit makes the value, else only units: floats stay exact.
        """
        value, params = self.values[name], self.plan.tensors[name]
        tail = [self.constant("s", np.float32(params.scale))]
        if self.plan.signed:
            tail.append(self.constant("z", np.int8(params.zero_point - 128)))
        elif params.zero_point or name in self.explicit:
            tail.append(self.constant("z", np.uint8(params.zero_point)))
        uses = list(value.uses())
        quantize = self.node("QuantizeLinear", [value, *tail], "q")
        back = self.node("DequantizeLinear", [quantize.outputs[0], *tail], "d")
        if value.producer() is None:
            self.in_front([quantize, back])
        else:
            self.behind(value, [quantize, back])
        for node, index in uses:
            if name in self.made or (node.outputs[0].name, name) in self.readers:
                node.replace_input_with(index, back.outputs[0])

    def store_weight(self, unit: Unit) -> None:
        """The unit's weight becomes int8 and a DQ, a Gemm's bias int32 and a DQ."""
        node = self.values[unit.result].producer()
        assert node is not None
        params = self.plan.weights[unit.result]
        gemm = unit.kind is Kind.LINEAR
        key = (str(unit.weight), unit.axis, gemm)
        if key not in self.weights:
            self.weights[key] = self._weight(unit)
        node.replace_input_with(1, self.weights[key])
        if not (gemm and self.plan.int32_bias):
            self._correct_bias(unit, node)
        elif unit.bias is not None:
            self._store_bias(unit, node, params)

    def _store_bias(self, unit: Unit, node: ir.Node, params: WeightParams) -> None:
        old = self.constants[unit.bias]
        bias = self.plan.biases.get(unit.result, constant_of(old))
        assert bias is not None
        scales = bias_scales(params, self.plan.tensors[unit.inputs[0]].scale)
        integers = self.constant("b", quantized_bias(bias, scales))
        back = self.node("DequantizeLinear", [integers, self.constant("s", scales)], "d", axis=0)
        self.in_front([back])
        _replace_input(self._bias_reader(node), old, back.outputs[0])

    def _correct_bias(self, unit: Unit, node: ir.Node) -> None:
        bias = self.plan.biases.get(unit.result)
        if bias is None:
            return
        if unit.kind is Kind.LINEAR and unit.bias is not None:
            reader = self._bias_reader(node)
            _replace_input(reader, self.constants[unit.bias], self.constant("b", bias))
        else:
            node.resize_inputs(3)
            node.replace_input_with(2, self.constant("b", bias))

    def _weight(self, unit: Unit) -> ir.Value:
        params = self.plan.weights[unit.result]
        weight = constant_of(self.constants[unit.weight])
        assert weight is not None
        inputs = [
            self.constant("w", self.plan.weight_integers(unit, weight)),
            self.constant("s", np.asarray(params.scales, np.float32)),
        ]
        if unit.kind is Kind.LINEAR:
            inputs.append(self.constant("z", np.zeros(len(params.scales), np.int8)))
        axis: dict[str, Any] = (
            {} if unit.axis == 1 else {"axis": unit.axis}
        )  # 1 is the operator's default
        back = self.node("DequantizeLinear", inputs, "d", **axis)
        self.in_front([back])
        return back.outputs[0]

    def _bias_reader(self, node: ir.Node) -> ir.Node:
        if node.op_type == "Gemm":
            return node
        (use,) = node.outputs[0].uses()
        return use.node


def _replace_input(node: ir.Node, old: ir.Value, new: ir.Value) -> None:
    for index, value in enumerate(node.inputs):
        if value is old:
            node.replace_input_with(index, new)


def _drop_value_info(model: ir.Model) -> None:
    for value in _inner_values(model.graph):
        value.type = value.shape = None
        value.metadata_props.clear()


def _inner_values(graph: ir.Graph) -> list[ir.Value]:
    made = [out for node in graph for out in node.outputs if not out.is_graph_output()]
    stored = [value for value in graph.initializers.values() if not value.is_graph_input()]
    return made + stored
