"""Dead channels leave the graph.

    x -> Conv(w, b) -> y        becomes   x' -> Conv(w[live, live'], b[live]) -> y'

A channel is dead where it is one constant for every input, or where nothing reads it.  A constant
that is not zero is made good for: in the next bias where no padding can be seen, else by merging
all constant channels of a tensor into one.  The outputs are the same numbers, up to the order of
sums; every removal is tested in float64 and in whole numbers, and comes with a certificate.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir
from onnx_ir.passes.common import (
    InlinePass,
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
)

from deploypipe.graph import Evidence, GraphPass, Outcome
from deploypipe.graph.channels.certificate import certificate
from deploypipe.graph.channels.constant_tensors import fold_constant_tensors
from deploypipe.graph.channels.dataflow import Dataflow
from deploypipe.graph.channels.groups import groups_of
from deploypipe.graph.channels.proof.finding import Finding, told
from deploypipe.graph.channels.proof.prove import prove
from deploypipe.graph.channels.removal import changes, plan_removal, remove
from deploypipe.graph.channels.sharing import part, unite
from deploypipe.graph.files import weight_bytes
from deploypipe.graph.shapes import infer_shapes

Test = Callable[[ir.Model, ir.Model], Sequence[Finding]]
"""A test of a removal: the model before and after it -> what was found."""


@dataclass(frozen=True)
class DropDeadChannels(GraphPass):
    """Remove channels that are constant or that nothing reads; keep blocks of ``round_to`` full.

    ``round_to`` 0 is the target's block where a target is known, else 1.  ``prove`` tests every
    removal on further copies of the model.  Functions are inlined where something goes.
    """

    round_to: int = 0
    prove: bool = True
    test: Test | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.round_to < 0:
            raise ValueError(f"round_to must not be negative, got {self.round_to}")

    def tested(self, test: Test) -> DropDeadChannels:
        """The same pass with one more test in the proof: that on the target, say."""
        other = replace(self)
        object.__setattr__(other, "test", test)
        return other

    def call(self, model: ir.Model) -> Outcome:
        given = model.clone() if model.functions else None
        InlinePass()(model)
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        infer_shapes(model)
        outcome = self._call(model)
        if given is not None and not outcome.modified:
            model.graph = given.graph
            model.functions.update(given.functions)
        return outcome

    def _call(self, model: ir.Model) -> Outcome:
        first, ambiguous = self._proven(model, inner=False)
        if not ambiguous:
            return first
        # Where heads cannot go, the same dimension of all of them perhaps can.
        second, _ = self._proven(model, inner=True)
        return Outcome(
            model,
            first.modified or second.modified,
            first.changes + second.changes,
            second.refusals,
            first.evidence + second.evidence,
        )

    def _proven(self, model: ir.Model, inner: bool) -> tuple[Outcome, bool]:
        """Cut; what the proof refutes is put back, and told."""
        before = model.clone()
        outcome, ambiguous = self._cut(model, inner)
        findings = self._findings(before, model, inner) if outcome.modified else []
        if refuted(findings):
            model.graph = before.clone().graph
            outcome, findings = self._without_culprits(before, model, inner, findings)
        infer_shapes(model)
        for evidence in outcome.evidence:
            evidence.certificate["proof"] = [told(finding) for finding in findings]
        outcome.evidence = [replace(one, after=model.clone()) for one in outcome.evidence]
        return outcome, ambiguous

    def _findings(
        self, before: ir.Model, after: ir.Model, inner: bool, frozen: Collection[int] = ()
    ) -> list[Finding]:
        found: list[Finding] = []
        if self.prove:
            found += prove(before, after, lambda model: self._cut(model, inner, frozen))
        if self.test is not None and not refuted(found):
            found += self.test(before, after)
        return found

    def _without_culprits(
        self, before: ir.Model, model: ir.Model, inner: bool, findings: Sequence[Finding]
    ) -> tuple[Outcome, list[Finding]]:
        """Cut all but the groups that the proof refutes; nothing, if that is not enough."""
        names = [group.name for group in groups_of(Dataflow(before.clone().graph, inner=inner))]

        def without(frozen: Collection[int], after: ir.Model) -> tuple[Outcome, list[Finding]]:
            outcome, _ = self._cut(after, inner, frozen)
            found = self._findings(before, after, inner, frozen) if outcome.modified else []
            return outcome, found

        def fails(chosen: Collection[int]) -> bool:
            return refuted(without(set(range(len(names))) - set(chosen), before.clone())[1])

        bad = find_culprits(range(len(names)), fails)
        why = next(finding.why for finding in findings if finding.ok is False)
        refusals = [f"{names[one]}: stays, for without it {why}; please report" for one in bad]
        outcome, left = without(bad, model)
        if refuted(left):
            model.graph = before.clone().graph
            return Outcome(model, False, [], [*refusals, "all dead channels stay"]), []
        outcome.refusals += refusals
        return outcome, left

    def _cut(
        self, model: ir.Model, inner: bool, frozen: Collection[int] = ()
    ) -> tuple[Outcome, bool]:
        """Cut every reader's own copy of a shared weight; those that come out alike are one again.

        Where copies differ, they are also cut together, and the smaller of both models stays.
        """
        before, together = model.clone(), set[str]()
        outcome, ambiguous, torn = self._cut_once(model, inner, frozen, together)
        while torn - together:
            together |= torn
            other = before.clone()
            second, _, torn = self._cut_once(other, inner, frozen, together)
            if weight_bytes(other) < weight_bytes(model):
                model.graph, outcome = other.graph, replace(second, model=model)
        return outcome, ambiguous

    def _cut_once(
        self, model: ir.Model, inner: bool, frozen: Collection[int], together: Collection[str]
    ) -> tuple[Outcome, bool, set[str]]:
        before = model.clone()
        copies = part(model.graph, together)
        flow = Dataflow(model.graph, inner=inner)
        removal = plan_removal(flow, max(1, self.round_to), frozen)
        constants = {} if frozen else fold_constant_tensors(flow, removal)
        told = [f"{value.name}: is constant, and so is what reads it" for value in constants]
        claims = certificate(flow, removal, copies)
        if removal.indices:
            told += changes(flow, removal)
            remove(flow, removal)
        torn = unite(model.graph, copies)
        if not told:
            return Outcome(model, False, [], removal.refusals), flow.ambiguous, torn
        RemoveUnusedNodesPass()(model)
        evidence = [Evidence(before, model, claims)]
        outcome = Outcome(model, True, told, removal.refusals, evidence)
        return outcome, flow.ambiguous, torn


def refuted(findings: Sequence[Finding]) -> bool:
    """Whether some test says no."""
    return any(finding.ok is False for finding in findings)


def find_culprits(chosen: Sequence[int], fails: Callable[[Collection[int]], bool]) -> list[int]:
    """The smallest parts of ``chosen`` that fail alone, by halving; all, if only all together do."""
    if not chosen or not fails(chosen):
        return []
    if len(chosen) == 1:
        return list(chosen)
    half = len(chosen) // 2
    found = find_culprits(chosen[:half], fails) + find_culprits(chosen[half:], fails)
    return found or list(chosen)
