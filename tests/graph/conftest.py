"""Models that one can read: ONNX text in, arrays by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from deploypipe.graph.check import compare, random_feeds


def parse(text: str, opset: int = 20, **weights: Any) -> ir.Model:
    """A model from its graph's text; ``weights`` become initializers of the same names."""
    header = f'<ir_version: 10, opset_import: ["" : {opset}]>'
    proto = onnx.parser.parse_model(f"{header}\n{text}")
    for name, array in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    onnx.checker.check_model(proto)
    return ir.serde.deserialize_model(proto)


def evaluate(model: ir.Model, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """onnx's own reference implementation."""
    proto = ir.serde.serialize_model(model)
    onnx.checker.check_model(proto, full_check=True)
    names = [str(value.name) for value in model.graph.outputs]
    return dict(zip(names, ReferenceEvaluator(proto).run(None, dict(feeds)), strict=True))


@pytest.fixture(name="parse")
def _parse() -> Callable[..., ir.Model]:
    return parse


@pytest.fixture(name="evaluate")
def _evaluate() -> Callable[..., dict[str, Any]]:
    return evaluate


@pytest.fixture
def ops() -> Callable[[ir.Model], list[str]]:
    """The op types of a model in order."""
    return lambda model: [node.op_type for node in model.graph]


@pytest.fixture
def same() -> Callable[[ir.Model, ir.Model], None]:
    """Assert that two models have the same interface and answers."""

    def check(before: ir.Model, after: ir.Model) -> None:
        def interface(model: ir.Model) -> list[str | None]:
            return [v.name for v in [*model.graph.inputs, *model.graph.outputs]]

        assert interface(before) == interface(after)
        for batch in (1, 3):
            feeds = random_feeds(before, seed=batch, batch=batch)
            assert compare(before, after, feeds, evaluate) < 1e-5

    return check
