"""Fold a batch normalization into the linear op before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from deploypipe.graph import GraphPass, Outcome
from deploypipe.graph.constants import Array, add_initializer, constant_of, input_of

_LINEAR = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True)
class Fold:
    """What replaces the weights and bias of ``linear`` so that ``norm`` can go."""

    linear: ir.Node
    norm: ir.Node
    weight: Array
    bias: Array


@dataclass(frozen=True)
class FuseBatchnorm(GraphPass):
    """Fold an inference-mode BatchNormalization into the Conv, ConvTranspose or Gemm before it.

    ::

        x -> Conv(W, b) -> BatchNormalization(gamma, beta, mean, var) -> y
        becomes   x -> Conv(W * k, (b - mean) * k + beta) -> y,   k = gamma / sqrt(var + epsilon)

    Computed in float64, then cast to the dtype of ``W``.  (Jacob et al., "Quantization and
    Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2017,
    arXiv:1712.05877, section 3.2.)
    """

    def call(self, model: ir.Model) -> Outcome:
        changes, refusals = [], []
        for norm in [node for node in model.graph if node.op_type == "BatchNormalization"]:
            fold = plan(norm)
            if isinstance(fold, str):
                refusals.append(f"kept BatchNormalization '{norm.name}': {fold}")
                continue
            linear = fold.linear
            _carry_out(fold)
            changes.append(f"BatchNormalization '{norm.name}' -> {linear.op_type} '{linear.name}'")
        return Outcome(model, bool(changes), changes, refusals)


def plan(norm: ir.Node) -> Fold | str:
    """The fold for one BatchNormalization, or the reason why there is none."""
    linear = norm.inputs[0].producer() if norm.inputs[0] is not None else None
    if linear is None or linear.op_type not in _LINEAR or linear.domain:
        maker = linear.op_type if linear else "an input of the graph"
        return f"its input comes from {maker}, not from Conv, ConvTranspose or Gemm"
    statistics = any(o.uses() or o.is_graph_output() for o in norm.outputs[1:])
    if norm.attributes.get_int("training_mode", 0) or statistics:
        return "it runs in training mode"
    if linear.outputs[0].is_graph_output() or len(linear.outputs[0].uses()) != 1:
        return f"the output of {linear.op_type} '{linear.name}' has other consumers"
    weight, norms = constant_of(linear.inputs[1]), [constant_of(v) for v in norm.inputs[1:5]]
    shared = linear.inputs[1]
    if weight is None or any(n is None for n in norms):
        return f"weights of {linear.op_type} '{linear.name}' or of the norm are not constant"
    if shared is not None and len(shared.uses()) != 1:
        return f"the weights '{shared.name}' are shared by {len(shared.uses())} nodes"
    scale, shift = _scale_and_shift(norm, [n for n in norms if n is not None])
    bias = _bias(linear, len(scale))
    return bias if isinstance(bias, str) else _fold(linear, norm, weight, bias, scale, shift)


def _scale_and_shift(norm: ir.Node, constants: list[Array]) -> tuple[Array, Array]:
    gamma, beta, mean, var = (array.astype(np.float64) for array in constants)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = gamma / np.sqrt(var + norm.attributes.get_float("epsilon", 1e-5))
    return scale, beta - mean * scale


def _bias(linear: ir.Node, channels: int) -> Array | str:
    """What ``linear`` adds to each channel, float64 [channels]."""
    value = input_of(linear, 2)
    if value is None:
        return np.zeros(channels)
    bias = constant_of(value)
    if bias is None:
        return f"the bias of {linear.op_type} '{linear.name}' is not constant"
    factor = linear.attributes.get_float("beta", 1.0) if linear.op_type == "Gemm" else 1.0
    if bias.size not in (1, channels) or (bias.ndim == 2 and bias.shape[0] != 1):
        return f"the bias of {linear.op_type} '{linear.name}' differs between rows"
    return np.broadcast_to(factor * bias.astype(np.float64).reshape(-1), (channels,))


def _fold(
    linear: ir.Node, norm: ir.Node, weight: Array, bias: Array, scale: Array, shift: Array
) -> Fold | str:
    with np.errstate(over="ignore", invalid="ignore"):
        new_weight = _scaled(linear, weight.astype(np.float64), scale).astype(weight.dtype)
        new_bias = (bias * scale + shift).astype(weight.dtype)
    # Through float64, because numpy's isfinite does not know bfloat16.
    if not all(np.isfinite(a.astype(np.float64)).all() for a in (new_weight, new_bias)):
        return "the folded weights would not be finite"
    return Fold(linear, norm, new_weight, new_bias)


def _scaled(linear: ir.Node, weight: Array, scale: Array) -> Array:
    """``weight`` with every output channel multiplied by its scale."""
    if linear.op_type == "Conv":  # [out, in/group, k...]
        return weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    if linear.op_type == "Gemm":
        return weight * (scale[:, None] if linear.attributes.get_int("transB", 0) else scale)
    group = linear.attributes.get_int("group", 1)  # [in, out/group, k...]
    parts = weight.reshape(group, -1, *weight.shape[1:])
    return (parts * scale.reshape(group, 1, -1, *[1] * (weight.ndim - 2))).reshape(weight.shape)


def _carry_out(fold: Fold) -> None:
    linear, norm = fold.linear, fold.norm
    graph = linear.graph
    assert isinstance(graph, ir.Graph)
    weight_name = _replace(graph, linear, 1, fold.weight, "weight")
    _replace(graph, linear, 2, fold.bias, _bias_name(weight_name))
    if linear.op_type == "Gemm":
        linear.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
    _take_place(graph, linear.outputs[0], norm)


def _replace(graph: ir.Graph, linear: ir.Node, index: int, array: Array, wish: str) -> str:
    """Give an input new content; an initializer that nothing else uses keeps its name."""
    old = input_of(linear, index)
    linear.resize_inputs(max(len(linear.inputs), index + 1))
    linear.replace_input_with(index, None)
    if old is not None and old.name and old.is_initializer() and not old.uses():
        del graph.initializers[old.name]
        wish = old.name
    new = add_initializer(graph, wish, array)
    linear.replace_input_with(index, new)
    return str(new.name)


def _bias_name(weight: str) -> str:
    """``layer1.conv.weight`` -> ``layer1.conv.bias``, as torch would call it."""
    stem, dot, last = weight.rpartition(".")
    return f"{stem}.bias" if dot and last == "weight" else f"{weight}_bias"


def _take_place(graph: ir.Graph, value: ir.Value, norm: ir.Node) -> None:
    """Let ``value`` stand for the norm's output, under its name, and remove the norm."""
    out = norm.outputs[0]
    value.shape, value.type = out.shape or value.shape, out.type or value.type
    name = out.name
    out.replace_all_uses_with(value, replace_graph_outputs=True)
    graph.remove(norm, safe=True)
    value.name = name
