"""Dead channels leave the graph.

    x -> Conv(w, b) -> y        becomes   x' -> Conv(w[live, live'], b[live]) -> y'

A channel is dead where it is zero for every input, or where nothing reads it.  The outputs are the
same numbers, up to the order of sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveUnusedNodesPass

from deploypipe.graph import GraphPass, Outcome
from deploypipe.graph.channels.dataflow import Dataflow
from deploypipe.graph.channels.removal import changes, plan_removal, remove
from deploypipe.graph.channels.sharing import part, unite
from deploypipe.graph.shapes import infer_shapes


@dataclass(frozen=True)
class DropDeadChannels(GraphPass):
    """Remove channels that are constant or that nothing reads; keep blocks of ``round_to`` full."""

    round_to: int = 1

    def __post_init__(self) -> None:
        if self.round_to < 1:
            raise ValueError(f"round_to must be at least 1, got {self.round_to}")

    def call(self, model: ir.Model) -> Outcome:
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        infer_shapes(model)
        copies = part(model.graph)
        flow = Dataflow(model.graph)
        removal = plan_removal(flow, self.round_to)
        if not removal.indices:
            unite(model.graph, copies)
            return Outcome(model, False, [], removal.refusals)
        told = changes(flow, removal)
        remove(flow, removal)
        unite(model.graph, copies)
        RemoveUnusedNodesPass()(model)
        infer_shapes(model)
        return Outcome(model, True, told, removal.refusals)
