"""Torch-Pruning on the dead weights of an ONNX file: back into torch, cut there, compared there."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch_pruning
from bench_models import build
from onnx import numpy_helper
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

ALIKE = 1e-3
"""What torch and ONNX Runtime may differ by on the same weights, relative to the largest output."""


def prune(name: str, path: Path, feeds: Path) -> dict[str, Any]:
    """Drop every filter that is zero; seconds, error and weights before and after.

    ``feeds`` is an .npz with ``in0 in1 ...`` and the file's outputs ``out0 out1 ...``.

    Raises:
        ValueError: the weights do not find their way back into the torch model.
    """
    warnings.simplefilter("ignore")
    began = time.perf_counter()
    arrays = np.load(feeds)
    inputs = tuple(torch.from_numpy(arrays[key]) for key in arrays.files if key.startswith("in"))
    model = fused(build(name))
    take_weights(model, onnx.load(path))
    before, weights = outputs_of(model, inputs), count(model)
    given = [arrays[key] for key in arrays.files if key.startswith("out")]
    if error_of(given, before) > ALIKE:
        raise ValueError("the dead weights do not find their way back into the torch model")
    started = time.perf_counter()
    drop_zero_filters(model, inputs)
    passed = time.perf_counter() - started
    after = outputs_of(model, inputs)
    return {
        "seconds": time.perf_counter() - began,
        "pass_seconds": passed,
        "error": error_of(before, after),
        "removed": weights - count(model),
    }


def fused(model: nn.Module) -> nn.Module:
    """Batch norms folded into convolutions, as the exporter does; untouched if it cannot be traced."""
    try:
        return fuse(model)
    except Exception:  # whatever in a model cannot be traced
        return model


def take_weights(model: nn.Module, proto: onnx.ModelProto) -> None:
    """Load all initializers that have a parameter of the same name and shape, or can be told."""
    arrays = {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}
    state = model.state_dict()
    for name, array in named(proto, arrays):
        if name in state and tuple(state[name].shape) == array.shape:
            state[name].copy_(torch.from_numpy(np.ascontiguousarray(array)))


def named(
    proto: onnx.ModelProto, arrays: dict[str, np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
    """Names of parameters, and arrays."""
    yield from arrays.items()
    readers = {name: node for node in proto.graph.node for name in node.input}
    for node in proto.graph.node:
        if node.op_type == "Conv" and len(node.input) > 2:  # a bias that came from a norm
            yield _swap(node.input[1], "weight", "bias"), arrays[node.input[2]]
        if node.op_type == "MatMul" and node.input[1] in arrays:
            # The exporter names a transposed weight anew; the bias behind it tells whose it is.
            reader = readers.get(node.output[0])
            biases = [name for name in (reader.input if reader else ()) if name in arrays]
            yield from ((_swap(b, "bias", "weight"), arrays[node.input[1]].T) for b in biases)


def _swap(name: str, old: str, new: str) -> str:
    return name.removesuffix(old) + new


def drop_zero_filters(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Name every filter of zeros to the dependency graph, which finds what goes with it."""
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    graph = torch_pruning.DependencyGraph()
    graph.build_dependency(model, example_inputs=inputs if len(inputs) > 1 else inputs[0])
    for layer in [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]:
        zero = torch.nonzero(layer.weight.detach().flatten(1).abs().sum(1) == 0).flatten().tolist()
        if zero:
            cut = graph.get_pruner_of_module(layer).prune_out_channels
            group = graph.get_pruning_group(layer, cut, idxs=zero)
            if graph.check_pruning_group(group):
                group.prune()


def outputs_of(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[np.ndarray]:
    """What the model answers."""
    with torch.no_grad():
        found = model(*inputs)
    return [one.numpy() for one in (found if isinstance(found, tuple | list) else [found])]


def count(model: nn.Module) -> int:
    """Weights of convolutions and linear layers."""
    return sum(p.numel() for name, p in model.named_parameters() if p.ndim > 1 and "weight" in name)


def error_of(expected: list[np.ndarray], given: list[np.ndarray]) -> float:
    """Largest difference relative to the largest magnitude of the output."""
    if [a.shape for a in expected] != [b.shape for b in given]:
        return float("inf")
    pairs = zip(expected, given, strict=True)
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)
