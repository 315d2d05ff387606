"""Ask the runtime what it made of the quantized model: a plan is only a hope until it has fused."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from deploypipe.graph.parts import parts_of
from deploypipe.quantize.plan import QuantPlan
from deploypipe.quantize.profile import Kind
from deploypipe.quantize.units import Unit
from deploypipe.runtime import Target

_INTEGER = re.compile(r"QLinear|QGemm|MatMulInteger|ConvInteger|DynamicQuantizeMatMul|MatMulNBits")


@dataclass(frozen=True)
class Audit:
    """``kernels`` counts the operators of the runtime's graph; ``unfused`` maps the name of each
    planned unit that did not become an integer kernel to what became of it."""

    kernels: Mapping[str, int]
    unfused: Mapping[str, str]


def audit(model: ir.Model, plan: QuantPlan, target: Target) -> Audit:
    """Open the quantized ``model``, read the graph that the runtime made of it, find every unit."""
    numbers = {unit.result: number for number, unit in enumerate(plan.units)}
    optimized = optimized_graph(labelled(model, numbers), target)
    unfused = {}
    for number, unit in enumerate(plan.units):
        fate = _fate(unit, label(number), optimized)
        if fate:
            unfused[unit.name] = fate
    return Audit(dict(Counter(node.op_type for node in optimized)), unfused)


def optimized_graph(model: ir.Model, target: Target) -> ir.Graph:
    """The graph that the runtime executes for ``model``; its large weights cannot be read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        with target.open(parts_of(model), optimized=path):
            pass
        return ir.load(path).graph


def labelled(model: ir.Model, numbers: Mapping[str, int]) -> ir.Model:
    """A copy in which the nodes that make the tensors of ``numbers`` are called by `label`."""
    copy = model.clone()
    for node in copy.graph:
        number = numbers.get(str(node.outputs[0].name))
        if number is not None:
            node.name = label(number)
    return copy


def label(number: int) -> str:
    """Fused nodes keep the name of the node they replace, with a suffix: ``unit.3._token_7``."""
    return f"unit.{number}."


def fused(name: str, graph: ir.Graph) -> bool:
    """Whether a node of this label became an integer kernel."""
    return any(_INTEGER.match(node.op_type) for node in _nodes(name, graph))


def _nodes(name: str, graph: ir.Graph) -> list[ir.Node]:
    return [node for node in graph if (node.name or "").startswith(name)]


def _fate(unit: Unit, name: str, graph: ir.Graph) -> str:
    """Empty if the unit runs in integers, else a reason."""
    nodes = _nodes(name, graph)
    if unit.kind is Kind.MOVE:
        floats = [node for node in nodes if _reads_dequantized(node)]
        return f"the runtime runs it in float, as {floats[0].op_type}" if floats else ""
    if fused(name, graph):
        return ""
    ops = sorted({node.op_type for node in nodes})
    return f"the runtime did not fuse it: {', '.join(ops) or 'it is gone'}"


def _reads_dequantized(node: ir.Node) -> bool:
    value = node.inputs[0]
    producer = value.producer() if value is not None else None
    return producer is not None and producer.op_type == "DequantizeLinear"
