"""Running one node on constants, in the dtype of the tensor itself."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from deploypipe.graph.channels.proof.kernels import kernel_of
from deploypipe.graph.channels.proof.reference import OLDEST
from deploypipe.graph.constants import constant_of


def run_on(node: ir.Node, vector: np.ndarray) -> np.ndarray:
    """The node's first output for a first input of the numbers in ``vector``, float64 [size].

    The other inputs are the constants that they are.  NaN where the op cannot be run here, and
    where a relative change of 1e-6 makes a step: a runtime may round to the other side.
    """
    x = node.inputs[0]
    others = [constant_of(value) for value in node.inputs[1:] if value is not None]
    if x is None or x.dtype is None or any(array is None for array in others):
        return np.full(vector.shape, np.nan)
    dtype = x.dtype.numpy()
    change = 1e-6 if dtype.kind not in "iu" else 0.0
    near = np.stack([vector, vector * (1 + change), vector * (1 - change)])
    feeds = [near.astype(dtype), *(array for array in others if array is not None)]
    # In float64 some ops of onnx.reference are no better than float32.
    kernel = kernel_of(node) if dtype == np.float64 and None not in node.inputs else None
    try:
        with np.errstate(all="ignore"):
            results = [kernel(node, *feeds)] if kernel else _run_reference(node, feeds)
    except (NotImplementedError, RuntimeError, TypeError, ValueError, IndexError):
        return np.full(vector.shape, np.nan)
    found = np.asarray(results[0], np.float64)
    if found.shape != near.shape:
        return np.full(vector.shape, np.nan)
    with np.errstate(all="ignore"):
        apart = np.abs(found[1:] - found[0]).max(0)
        step = apart > 1e-3 * np.abs(found[0]) + 1e-6 * np.abs(vector)
    return np.where(step | ~np.isfinite(found[0]), np.nan, found[0])


def _run_reference(node: ir.Node, feeds: list[np.ndarray]) -> list[Any]:
    names = [f"in{k}" for k in _places(node)]
    return list(_evaluator(*_alone(node)).run(None, dict(zip(names, feeds, strict=True))))


def _places(node: ir.Node) -> list[int]:
    return [place for place, value in enumerate(node.inputs) if value is not None]


def _alone(node: ir.Node) -> tuple[bytes, bytes]:
    """The node in a model of its own; typed, so that ops that are functions can be run."""
    names = [f"in{k}" if value is not None else "" for k, value in enumerate(node.inputs)]
    copied = onnx.helper.make_node(node.op_type, names, ["out"], domain=node.domain)
    copied.attribute.extend(ir.to_proto(node).attribute)
    typed = [
        onnx.helper.make_tensor_value_info(name, int(value.dtype or ir.DataType.FLOAT), None)
        for name, value in zip(names, node.inputs, strict=True)
        if value is not None
    ]
    graph = onnx.helper.make_graph([copied], "alone", typed, [onnx.ValueInfoProto(name="out")])
    version = node.version or (node.graph.opset_imports.get("", 21) if node.graph else 21)
    version = max(version, OLDEST.get(node.op_type, 1))
    opset = onnx.helper.make_opsetid(node.domain, version)
    return graph.SerializeToString(), opset.SerializeToString()


@functools.lru_cache(maxsize=256)
def _evaluator(graph: bytes, opset: bytes) -> ReferenceEvaluator:
    """Nodes that are alike share one: a deep graph has thousands."""
    opsets = [onnx.OperatorSetIdProto.FromString(opset)]
    return ReferenceEvaluator(
        onnx.helper.make_model(onnx.GraphProto.FromString(graph), opset_imports=opsets)
    )
