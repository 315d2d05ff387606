"""One-node models, run in float64 and by onnxruntime in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from deploypipe.graph.channels.proof.evaluate import evaluate64


def one_node(
    op: str, arrays: Mapping[str, np.ndarray | None], opset: int = 20, **attributes: Any
) -> ir.Model:
    """A model of one node whose inputs are fed; None leaves an input out."""
    names = [name if array is not None else "" for name, array in arrays.items()]
    node = onnx.helper.make_node(op, names, ["y"], **attributes)
    typed = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in arrays.items()
        if array is not None
    ]
    graph = onnx.helper.make_graph([node], "one", typed, [onnx.ValueInfoProto(name="y")])
    opsets = [onnx.helper.make_opsetid("", opset)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
    model = onnx.shape_inference.infer_shapes(model)
    return ir.serde.deserialize_model(model)


def onnxruntime_run(model: ir.Model, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The outputs by name, graph optimizations off, one thread."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(feeds)), strict=True))


@pytest.fixture(name="run")
def _run() -> Callable[..., dict[str, np.ndarray]]:
    return onnxruntime_run


@pytest.fixture
def same_as_onnxruntime() -> Callable[..., None]:
    """Assert that a node gives in float64 what onnxruntime gives in float32."""

    def check(op: str, arrays: Mapping[str, np.ndarray | None], **attributes: Any) -> None:
        model = one_node(op, arrays, **attributes)
        feeds = {name: array for name, array in arrays.items() if array is not None}
        expected = onnxruntime_run(model, feeds)["y"]
        given = evaluate64(model, feeds)["y"]
        what = f"{op} {[None if a is None else a.shape for a in arrays.values()]} {attributes}"
        assert given.shape == expected.shape, what
        assert given.dtype == (np.float64 if expected.dtype.kind == "f" else expected.dtype), what
        np.testing.assert_allclose(given, expected, rtol=2e-5, atol=2e-5, err_msg=what)

    return check


@pytest.fixture
def alone() -> Callable[..., np.ndarray]:
    """A node's output in float64."""

    def run(op: str, arrays: Mapping[str, np.ndarray | None], **attributes: Any) -> np.ndarray:
        feeds = {name: array for name, array in arrays.items() if array is not None}
        return evaluate64(one_node(op, arrays, **attributes), feeds)["y"]

    return run
