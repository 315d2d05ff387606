"""Which kernel of the runtime computes which nodes of the graph, and how long it takes.

The runtime names a fused kernel after the node or the tensor that it ends in, so every node and its
outputs are numbered before the model is opened:

    n5. Conv -> n6. Relu          becomes the kernel  "n6.0._nchwc", which covers 6 and so 5 too

A node that no kernel is named after belongs to the kernels that its result goes into.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph.parts import parts_of
from deploypipe.runtime import Placement, Target

Arrays = Mapping[str, npt.NDArray[Any]]

_NUMBER = re.compile(r"\bn(\d+)\.")
RUNS = 15
"""Of every model, in turns; what is reported is the median of each kernel."""


@dataclass(frozen=True)
class Kernel:
    """A kernel of the runtime; ``nodes`` are the numbers of the graph's nodes that it covers."""

    op: str
    microseconds: float
    nodes: frozenset[int]


def numbering(model: ir.Model) -> dict[str, int]:
    """Output's name -> number of its node, for the nodes of the main graph."""
    return {
        str(out.name): number for number, node in enumerate(model.graph) for out in node.outputs
    }


def numbered(model: ir.Model, numbers: Mapping[str, int]) -> ir.Model:
    """A copy whose nodes are called by ``numbers``, a model or what became of it; others lose
    their names.  Nodes may share a number."""
    copy, taken = model.clone(), Counter[int]()
    for node in copy.graph:
        names = [str(out.name) for out in node.outputs]
        number = next((numbers[name] for name in names if name in numbers), None)
        if number is None:
            node.name = None
            continue
        more = f"{taken[number]}." if taken[number] else ""
        taken[number] += 1
        node.name = f"n{number}.{more}"
        for place, out in enumerate(node.outputs):
            out.name = f"n{number}.{more}{place}."
    return copy


def time_kernels(
    models: Sequence[tuple[ir.Model, Mapping[str, int]]],
    feeds: Sequence[Arrays],
    target: Target,
    runs: int = RUNS,
) -> list[list[Kernel]]:
    """The kernels of each model, all models timed in turns.

    Each comes with the numbers of its nodes, all of them numbers of the first one's; ``feeds`` are
    rotated.
    """
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(
                target.open(parts_of(numbered(model, numbers), lean=False), profile=True)
            )
            for model, numbers in models
        ]
        for run in range(runs):
            for session in sessions:
                session(feeds[run % len(feeds)])
        makers = _makers(models[0][0])
        return [_kernels(session.placement(), makers) for session in sessions]


def _makers(model: ir.Model) -> list[list[int]]:
    """For every node the numbers of the nodes whose outputs it reads."""
    numbers = numbering(model)
    return [
        [numbers[str(v.name)] for v in node.inputs if v is not None and str(v.name) in numbers]
        for node in model.graph
    ]


def _kernels(placements: Iterable[Placement], makers: Sequence[Sequence[int]]) -> list[Kernel]:
    named = [(one, {int(text) for text in _NUMBER.findall(one.node)}) for one in placements]
    seen = set[int]().union(*(numbers for _, numbers in named))
    return [
        Kernel(one.op, one.microseconds, frozenset(_covered(numbers, seen, makers)))
        for one, numbers in named
    ]


def _covered(ends: set[int], seen: set[int], makers: Sequence[Sequence[int]]) -> set[int]:
    """``ends`` and what leads into them without a kernel of its own."""
    found, waiting = set(ends), list(ends)
    while waiting:
        fresh = [maker for maker in makers[waiting.pop()] if maker not in seen | found]
        found.update(fresh)
        waiting += fresh
    return found
