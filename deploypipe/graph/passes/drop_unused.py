"""Drop what no output depends on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import (
    RemoveUnusedFunctionsPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
)

from deploypipe.graph import GraphPass, Outcome
from deploypipe.graph.files import weight_bytes


@dataclass(frozen=True)
class DropUnused(GraphPass):
    """Drop nodes, initializers, functions and opset imports that no output depends on.

    ::

        x -> f -> y, x -> g, W        becomes        x -> f -> y

    Inputs of the graph stay even if unused: they are its interface.
    """

    def call(self, model: ir.Model) -> Outcome:
        before, weights = _count(model), weight_bytes(model)
        RemoveUnusedNodesPass()(model)
        RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]
        RemoveUnusedOpsetsPass()(model)
        gone = before - _count(model)
        kinds = ", ".join(f"{what}: {count}" for what, count in gone.items())
        saved = weights - weight_bytes(model)
        changes = [f"dropped what no output depends on ({kinds}; {saved} bytes)"] if gone else []
        return Outcome(model, bool(gone), changes)


def _count(model: ir.Model) -> Counter[str]:
    return Counter(
        {
            "nodes": sum(1 for _ in model.graph.all_nodes()),
            "initializers": sum(len(graph.initializers) for graph in model.graphs()),
            "functions": len(model.functions),
            "opset imports": len(model.opset_imports),
        }
    )
