"""Cut the dead channels out of a model that one can read, and compare to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from deploypipe.graph.channels.dataflow import Dataflow
from deploypipe.graph.channels.removal import plan_removal
from deploypipe.graph.check import random_feeds
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


@pytest.fixture
def flow() -> Callable[[ir.Model], Dataflow]:
    """The dataflow of a model, with its shapes inferred."""

    def build(model: ir.Model) -> Dataflow:
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        infer_shapes(model)
        return Dataflow(model.graph)

    return build


@pytest.fixture
def cut(parse, flow, evaluate) -> Callable[..., Cut]:
    """Plan, cut, and assert that small integers give bit-identical outputs."""

    def run(text: str, round_to: int = 1, opset: int = 20, exact: bool = True, **w: Any) -> Cut:
        planned, before, after = (parse(text, opset, **w) for _ in range(3))
        found = Cut(before, after)
        for (value, axis), index in plan_removal(flow(planned), round_to).indices.items():
            found.gone.setdefault(str(value.name), {})[axis] = index.tolist()
        outcome = DropDeadChannels(round_to)(after)
        found.changes, found.refusals = outcome.changes, outcome.refusals
        assert outcome.modified is bool(found.gone)
        for batch in (1, 2):
            feeds = whole_numbers(before, batch)
            expected, given = evaluate(before, feeds), evaluate(after, feeds)
            for name in expected:
                close = np.testing.assert_array_equal if exact else np.testing.assert_allclose
                close(given[name], expected[name])
        return found

    return run


def whole_numbers(model: ir.Model, batch: int) -> dict[str, np.ndarray]:
    """Feeds of small integers, so that sums of any order are exact."""
    feeds = random_feeds(model, seed=batch, batch=batch, sizes={"H": 5})
    return {name: np.round(2 * array) for name, array in feeds.items()}
