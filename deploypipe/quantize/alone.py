"""What every unit does to its own output when it alone runs in 8 bits.

Beside the float model, in one graph, each unit is computed once more from the same float inputs:

    x -> Conv -> Relu -> y                                          the model, as it is
    x -> Q -> DQ -> Conv(DQ(w8)) -> Relu -> Q -> DQ -> y'           beside it
    y, y' -> the sums of y^2 and of (y' - y)^2                      two numbers leave

So the errors of the units before it play no part, and one run tells of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from deploypipe.graph.constants import constant_of
from deploypipe.graph.parts import parts_of
from deploypipe.quantize.lookout import Arrays
from deploypipe.quantize.plan import QuantPlan
from deploypipe.quantize.profile import Kind
from deploypipe.quantize.rewriting import Rewriter
from deploypipe.quantize.signal import decibels
from deploypipe.quantize.units import Unit
from deploypipe.runtime import Target


def noise_alone(
    model: ir.Model, plan: QuantPlan, samples: Sequence[Arrays], target: Target
) -> dict[str, float]:
    """Unit's name -> signal to noise of its output in dB; units that only move bytes are left out.

    ``model`` is the float model that ``plan`` was made for.
    """
    units = [unit for unit in plan.units if unit.kind not in (Kind.MOVE, Kind.RESIDUAL)]
    if not units:
        return {}
    beside = _Beside(model, plan)
    sums = {unit.name: beside.add(unit) for unit in units}
    beside.graph.outputs.extend(value for pair in sums.values() for value in pair)
    total = {unit.name: np.zeros(2) for unit in units}
    with target.open(parts_of(beside.finish())) as session:
        for sample in samples:
            answers = session(sample)
            for name, pair in sums.items():
                total[name] += [float(answers[str(value.name)]) for value in pair]
    return {name: decibels(signal, noise) for name, (signal, noise) in total.items()}


class _Beside(Rewriter):
    """Adds the 8-bit twin of a unit behind it."""

    def __init__(self, model: ir.Model, plan: QuantPlan) -> None:
        super().__init__(model)
        self.plan = plan
        self.rounded: dict[str, ir.Value] = {}

    def add(self, unit: Unit) -> tuple[ir.Value, ir.Value]:
        """The sums of the squares of the unit's output, and of the error of its twin's."""
        output = self.values[unit.output]
        last = output.producer()
        assert last is not None
        nodes: list[ir.Node] = []
        twins = {name: self._round(name) for name in unit.inputs}
        if unit.weight is not None:
            twins[unit.weight] = self._weight(unit, nodes)
        bias = self.plan.biases.get(unit.result)
        if bias is not None and unit.bias is not None:
            twins[unit.bias] = self.constant("k", bias.reshape(self._bias_shape(unit)))
        for node in self._chain(unit):
            inputs = [v and twins.get(str(v.name), v) for v in node.inputs]
            if node.outputs[0].name == unit.result and bias is not None and unit.bias is None:
                inputs = [*inputs[:2], self.constant("k", bias)]
            twin = self.node(node.op_type, inputs)
            twin.attributes.update(node.attributes)
            nodes.append(twin)
            twins[str(node.outputs[0].name)] = twin.outputs[0]
        made = twins[unit.output]
        if unit.output in self.plan.tensors:
            made = self._quantized(made, unit.output, nodes)
        error = self._node("Sub", [made, output], nodes)
        noise = self._node("ReduceSumSquare", [error], nodes, keepdims=0)
        signal = self._node("ReduceSumSquare", [output], nodes, keepdims=0)
        self.graph.insert_after(last, nodes)
        signal.type = noise.type = ir.TensorType(ir.DataType.FLOAT)
        return signal, noise

    def _chain(self, unit: Unit) -> list[ir.Node]:
        """The unit's nodes, from the one with the weight to the one that makes its output."""
        node = self.values[unit.result].producer()
        assert node is not None
        nodes = [node]
        while nodes[-1].outputs[0].name != unit.output:
            nodes.append(next(iter(nodes[-1].outputs[0].uses())).node)
        return nodes

    def _round(self, name: str) -> ir.Value:
        """A tensor of the float model, through 8 bits."""
        if name not in self.rounded:
            value, nodes = self.values[name], list[ir.Node]()
            self.rounded[name] = self._quantized(value, name, nodes)
            self.behind(value, nodes)
        return self.rounded[name]

    def _quantized(self, value: ir.Value, name: str, nodes: list[ir.Node]) -> ir.Value:
        params = self.plan.tensors[name]
        zero = np.int8(params.zero_point - 128) if self.plan.signed else np.uint8(params.zero_point)
        tail = [self.constant("k", np.float32(params.scale)), self.constant("k", zero)]
        stored = self._node("QuantizeLinear", [value, *tail], nodes)
        return self._node("DequantizeLinear", [stored, *tail], nodes)

    def _weight(self, unit: Unit, nodes: list[ir.Node]) -> ir.Value:
        params = self.plan.weights[unit.result]
        weight = constant_of(self.constants[unit.weight])
        assert weight is not None
        stored = self.constant("k", self.plan.weight_integers(unit, weight))
        scales = self.constant("k", np.asarray(params.scales, np.float32))
        return self._node("DequantizeLinear", [stored, scales], nodes, axis=unit.axis)

    def _bias_shape(self, unit: Unit) -> tuple[int, ...]:
        old = constant_of(self.constants[unit.bias])
        assert old is not None
        return old.shape

    def _node(
        self, op: str, inputs: Sequence[ir.Value], nodes: list[ir.Node], **attributes: Any
    ) -> ir.Value:
        nodes.append(self.node(op, inputs, **attributes))
        return nodes[-1].outputs[0]
