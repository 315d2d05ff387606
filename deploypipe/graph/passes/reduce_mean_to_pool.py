"""Write a mean over the picture as the pooling it is."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from deploypipe.graph import GraphPass, Outcome
from deploypipe.graph.constants import constant_of, input_of
from deploypipe.graph.shapes import shaped_values


@dataclass(frozen=True)
class ReduceMeanToPool(GraphPass):
    """Turn a ReduceMean over exactly the spatial axes into a GlobalAveragePool.

    ::

        x[N, C, H, W] -> ReduceMean(axes=2, 3; keepdims=1) -> y[N, C, 1, 1]
        becomes   x -> GlobalAveragePool -> y
        x[N, C, H, W] -> ReduceMean(axes=2, 3; keepdims=0) -> y[N, C]
        becomes   x -> GlobalAveragePool -> Flatten(axis=1) -> y

    Runtimes have faster and quantized kernels for the pooling.
    """

    def call(self, model: ir.Model) -> Outcome:
        means = [node for node in model.graph if node.op_type == "ReduceMean" and not node.domain]
        values = shaped_values(model) if means else {}
        changes, refusals = [], []
        for mean in means:
            why = _objection(mean, values)
            if why:
                refusals.append(f"kept ReduceMean '{mean.name}': {why}")
                continue
            changes.append(f"ReduceMean '{mean.name}' -> GlobalAveragePool")
            _replace(mean)
        return Outcome(model, bool(changes), changes, refusals)


def _objection(mean: ir.Node, values: dict[str | None, ir.Value]) -> str | None:
    """Why the mean is not a global pooling, None if it is."""
    data = values.get(mean.inputs[0].name) if mean.inputs[0] is not None else None
    if data is None or data.shape is None or data.dtype is None:
        return "the rank or dtype of its input is not known"
    if data.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        return f"its input is {data.dtype.name.lower()}, for which runtimes have no pooling"
    rank = len(data.shape)
    axes = _axes(mean)
    if axes is None:
        return "its axes are not constant"
    if rank < 3 or sorted(axis % rank for axis in axes) != list(range(2, rank)):
        return f"it reduces the axes {axes} of {rank}, not exactly the spatial ones"
    return None


def _axes(mean: ir.Node) -> list[int] | None:
    """The reduced axes as written (an attribute before opset 18, then an input); [] is all."""
    if "axes" in mean.attributes:
        return list(mean.attributes.get_ints("axes", ()))
    if input_of(mean, 1) is None:
        return []
    axes = constant_of(mean.inputs[1])
    return None if axes is None else [int(axis) for axis in axes.reshape(-1)]


def _replace(mean: ir.Node) -> None:
    graph = mean.graph
    assert graph is not None
    name, out = mean.name, mean.outputs[0]
    pool = ir.Node("", "GlobalAveragePool", [mean.inputs[0]], name=name)
    nodes = [pool]
    if not mean.attributes.get_int("keepdims", 1):
        flat = ir.Node(
            "", "Flatten", [pool.outputs[0]], [ir.AttrInt64("axis", 1)], name=f"{name}_flatten"
        )
        nodes.append(flat)
        pool.outputs[0].name = f"{out.name}_pooled"
        pool.outputs[0].type = out.type
    new = nodes[-1].outputs[0]
    ir.convenience.replace_nodes_and_values(graph, mean, [mean], nodes, [out], [new])
