"""Give everything inside the graph a short name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import onnx_ir as ir

from deploypipe.graph import GraphPass, Outcome
from deploypipe.graph.naming import base_36


@dataclass(frozen=True)
class ShortenNames(GraphPass):
    """Rename values, weights and nodes to ``0``, ``1``, ... ``z``, ``10``; for the very last step.

    ::

        Conv 'node_34'(image, layer1.0.conv1.weight) -> getitem   becomes   Conv '0'(image, 0) -> 1

    Inputs and outputs of the graph keep their names.  Every name is stored at its definition and
    at each use: in a quantized ResNet-20 of 300 kB the names are 6 % of the file.  Afterwards
    nothing maps weights back to the parameters of the torch model.
    """

    weights: bool = True

    def call(self, model: ir.Model) -> Outcome:
        interface = {value.name for value in [*model.graph.inputs, *model.graph.outputs]}
        kept = interface if self.weights else interface | _weights(model)
        values = [v for v in _values(model) if v.name and v.name not in kept]
        nodes = list(model.graph.all_nodes())
        renamed = _rename(values, kept) + _rename(nodes, set())
        changes = [f"shortened {renamed} names"] if renamed else []
        return Outcome(model, bool(changes), changes)


def _weights(model: ir.Model) -> set[str | None]:
    return {name for graph in model.graphs() for name in graph.initializers}


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.initializers.values()
        yield from graph.inputs
    for node in model.graph.all_nodes():
        yield from node.outputs


class _Named(Protocol):
    name: str | None


def _rename(things: Sequence[_Named], kept: set[str | None]) -> int:
    """Number ``things`` in their order; how many got another name."""
    names = _names(len(things), kept)
    renamed = sum(thing.name != name for thing, name in zip(things, names, strict=True))
    if renamed:
        for number, thing in enumerate(things):  # out of the way first: a new name may be in use
            thing.name = f"renaming {number}"
        for thing, name in zip(things, names, strict=True):
            thing.name = name
    return renamed


def _names(count: int, kept: set[str | None]) -> list[str]:
    names: list[str] = []
    number = 0
    while len(names) < count:
        name = base_36(number)
        names += [] if name in kept else [name]
        number += 1
    return names
