"""Cut the dead channels out of a model that one can read, and compare to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from deploypipe.graph.channels.dataflow import Dataflow
from deploypipe.graph.channels.removal import plan_removal
from deploypipe.graph.channels.sharing import part
from deploypipe.graph.check import random_feeds
from deploypipe.graph.files import to_bytes
from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels
from deploypipe.graph.shapes import infer_shapes


@dataclass
class Cut:
    """What went: ``gone["w"]`` is ``{axis: indices}``; what was told; the models."""

    before: ir.Model
    after: ir.Model
    gone: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def node(self, op: str) -> ir.Node:
        """The first node of an op after the cut."""
        return next(node for node in self.after.graph if node.op_type == op)

    def array(self, name: str) -> np.ndarray:
        """An initializer after the cut."""
        value = self.after.graph.initializers[name].const_value
        assert value is not None
        return value.numpy()

    def constant(self, op: str, place: int) -> list[Any]:
        """The numbers of a constant input of the first node of an op after the cut."""
        value = self.node(op).inputs[place]
        assert value is not None and value.const_value is not None
        return value.const_value.numpy().tolist()

    @property
    def ops(self) -> list[str]:
        """The op types after the cut, in order."""
        return [node.op_type for node in self.after.graph]


@pytest.fixture
def flow() -> Callable[[ir.Model], Dataflow]:
    """The dataflow of a model, with its shapes inferred."""

    def build(model: ir.Model) -> Dataflow:
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        infer_shapes(model)
        return Dataflow(model.graph)

    return build


@pytest.fixture
def cut(parse) -> Callable[..., Cut]:
    """Plan, cut, and assert that small integers give bit-identical outputs.

    ``ort`` runs both models in ONNX Runtime instead of onnx's reference.  ``gone`` is the plan's
    first reading, where whole axes of a Reshape go; the pass then tries the second.
    """

    def run(
        text: str,
        round_to: int = 1,
        opset: int = 20,
        exact: bool = True,
        ort: bool = False,
        **weights: Any,
    ) -> Cut:
        before = parse(text, opset, **weights)
        found = Cut(before, before.clone())
        for (value, axis), index in plan_removal(parted(before), round_to).indices.items():
            found.gone.setdefault(str(value.name), {})[axis] = index.tolist()
        # With the proof, the pass would put back what is wrong, and no test would fail.
        outcome = DropDeadChannels(round_to, prove=False)(found.after)
        found.changes, found.refusals = outcome.changes, outcome.refusals
        assert outcome.modified is bool(outcome.changes)
        assert outcome.modified or not found.gone
        feeds = [whole_numbers(before, batch) for batch in (1, 2)]
        execute = run_in_runtime if ort else run_in_reference
        pairs = zip(execute(before, feeds), execute(found.after, feeds), strict=True)
        for expected, given in pairs:
            for name in expected:
                agree(given[name], expected[name], exact)
        return found

    return run


def parted(model: ir.Model) -> Dataflow:
    """The dataflow as the pass sees it; ``model`` stays as it is."""
    copy = model.clone()
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(copy)
    infer_shapes(copy)
    part(copy.graph)
    return Dataflow(copy.graph)


def agree(given: np.ndarray, expected: np.ndarray, exact: bool) -> None:
    """Bit-identical, or equal up to the rounding of reordered sums."""
    assert given.shape == expected.shape and given.dtype == expected.dtype
    if exact:
        np.testing.assert_array_equal(given, expected)
    else:
        scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=1e-3))
        np.testing.assert_allclose(given, expected, rtol=2e-5, atol=2e-6 * scale)


Outputs = list[dict[str, np.ndarray]]


def run_in_reference(model: ir.Model, feeds: list[dict[str, np.ndarray]]) -> Outputs:
    """onnx's own reference implementation, after its checker."""
    proto = ir.serde.serialize_model(model)
    onnx.checker.check_model(proto, full_check=True)
    evaluator, names = ReferenceEvaluator(proto), [str(out.name) for out in model.graph.outputs]
    return [dict(zip(names, evaluator.run(None, dict(one)), strict=True)) for one in feeds]


def run_in_runtime(model: ir.Model, feeds: list[dict[str, np.ndarray]]) -> Outputs:
    """ONNX Runtime with its own rewriting switched off."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(to_bytes(model), options, ["CPUExecutionProvider"])
    names = [out.name for out in session.get_outputs()]
    return [dict(zip(names, session.run(None, dict(one)), strict=True)) for one in feeds]


def whole_numbers(model: ir.Model, batch: int) -> dict[str, np.ndarray]:
    """Feeds of small integers, so that sums of any order are exact."""
    feeds = random_feeds(model, seed=batch, batch=batch, sizes={"H": 5})
    return {name: np.round(2 * array) for name, array in feeds.items()}
