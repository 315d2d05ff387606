"""ONNX in memory -> smaller ONNX.  The graph is :class:`onnx_ir.Model`; there is no wrapper.

A pass is an :mod:`onnx_ir` pass that also tells what it changed and what it refused.  A new pass is
one new file in ``passes/`` whose class derives from :class:`GraphPass`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from deploypipe.core.shelf import Shelf


@dataclass(frozen=True)
class Evidence:
    """The model on both sides of a pass, and a certificate that another program can check."""

    before: ir.Model
    after: ir.Model
    certificate: dict[str, Any]


@dataclass
class Outcome(ir.passes.PassResult):
    """A pass's result with its story: sentences for what changed and for every "no".

    ``evidence`` is what passes that prove their work have to show.
    """

    changes: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)


class GraphPass(ir.passes.InPlacePass):
    """Edits the model in place.  Options are the constructor's parameters.

    The outputs stay equal up to the rounding of reordered sums.
    """

    @abstractmethod
    def call(self, model: ir.Model) -> Outcome:
        """Edit ``model``; ``modified`` must be False when nothing changed."""


PASSES: Shelf[GraphPass] = Shelf("pass", "deploypipe.graph.passes", GraphPass)


def run_passes(model: ir.Model, passes: Sequence[GraphPass], rounds: int = 4) -> Outcome:
    """Run ``passes`` in order, again and again until nothing changes, at most ``rounds`` times.

    The changes of all rounds are told; of the refusals only those of the last round stand.
    """
    changes: list[str] = []
    refusals: list[str] = []
    evidence: list[Evidence] = []
    for _ in range(rounds):
        outcomes = [one.call(model) for one in passes]
        changes += [text for outcome in outcomes for text in outcome.changes]
        evidence += [one for outcome in outcomes for one in outcome.evidence]
        refusals = [text for outcome in outcomes for text in outcome.refusals]
        if not any(outcome.modified for outcome in outcomes):
            break
    return Outcome(model, bool(changes), changes, refusals, evidence)
