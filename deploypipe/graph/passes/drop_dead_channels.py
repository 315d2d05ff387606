"""Dead channels leave the graph.

    x -> Conv(w, b) -> y        becomes   x' -> Conv(w[live, live'], b[live]) -> y'

A channel is dead where it is one constant for every input, or where nothing reads it.  A constant
that is not zero is made good for: in the next bias where no padding can be seen, else by merging
all constant channels of a tensor into one.  The outputs are the same numbers, up to the order of
sums, and every removal comes with a certificate.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveUnusedNodesPass

from deploypipe.graph import Evidence, GraphPass, Outcome
from deploypipe.graph.channels.certificate import certificate
from deploypipe.graph.channels.constant_tensors import fold_constant_tensors
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
        first, ambiguous = self._cut(model, inner=False)
        if not ambiguous:
            return first
        # Where heads cannot go, the same dimension of all of them perhaps can.
        second, _ = self._cut(model, inner=True)
        return Outcome(
            model,
            first.modified or second.modified,
            first.changes + second.changes,
            second.refusals,
            first.evidence + second.evidence,
        )

    def _cut(self, model: ir.Model, inner: bool) -> tuple[Outcome, bool]:
        before = model.clone()
        copies = part(model.graph)
        flow = Dataflow(model.graph, inner=inner)
        removal = plan_removal(flow, self.round_to)
        constants = fold_constant_tensors(flow, removal)
        told = [f"{value.name}: is constant, and so is what reads it" for value in constants]
        claims = certificate(flow, removal, copies)
        if removal.indices:
            told += changes(flow, removal)
            remove(flow, removal)
        unite(model.graph, copies)
        if not told:
            return Outcome(model, False, [], removal.refusals), flow.ambiguous
        RemoveUnusedNodesPass()(model)
        infer_shapes(model)
        evidence = [Evidence(before, model.clone(), claims)]
        return Outcome(model, True, told, removal.refusals, evidence), flow.ambiguous
