"""Give the weights short names, and every node the name of what it gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from deploypipe.graph import GraphPass, Outcome
from deploypipe.graph.naming import base_36


@dataclass(frozen=True)
class ShortenNames(GraphPass):
    """Rename weights to ``0``, ``1``, ... ``z``, ``10``, and nodes after their first output; last.

    ::

        Conv 'node_34'(image, layer1.0.conv1.weight) -> relu_5  becomes  Conv 'relu_5'(image, 0) -> relu_5

    Every name is stored at its definition and at each use: in a quantized ResNet-20 of 300 kB those
    of the weights are 3 % of the file.  Tensors keep their names, so that layers can be compared
    with the file as it was exported, and what is said of a node names something that is there too.
    With ``weights`` false those keep their names as well.
    """

    weights: bool = True

    def call(self, model: ir.Model) -> Outcome:
        weights = list(_weights(model)) if self.weights else []
        shortened = _renumber(weights, _names_of_others(model, weights))
        named = _name_nodes(model)
        changes = [f"shortened the names of {shortened} weights"] if shortened else []
        changes += [f"named {named} nodes after what they give"] if named else []
        return Outcome(model, bool(changes), changes)


def _weights(model: ir.Model) -> Iterator[ir.Value]:
    """Those that are no inputs or outputs as well, of which the interface has the name."""
    interface = {value.name for value in [*model.graph.inputs, *model.graph.outputs]}
    for graph in model.graphs():
        yield from (value for name, value in graph.initializers.items() if name not in interface)


def _names_of_others(model: ir.Model, weights: Sequence[ir.Value]) -> set[str | None]:
    mine = {id(value) for value in weights}
    values = [v for graph in model.graphs() for v in (*graph.inputs, *graph.initializers.values())]
    values += [out for node in model.graph.all_nodes() for out in node.outputs]
    return {value.name for value in values if id(value) not in mine}


def _renumber(weights: Sequence[ir.Value], kept: set[str | None]) -> int:
    """Number them in their order; how many got another name."""
    names = _names(len(weights), kept)
    renamed = sum(weight.name != name for weight, name in zip(weights, names, strict=True))
    if renamed:
        taken = {weight.name for weight in weights} | kept
        aside = max((str(name) for name in taken), key=len) + "."  # no name starts so
        for number, weight in enumerate(weights):  # out of the way: a new name may be in use
            weight.name = f"{aside}{number}"
        for weight, name in zip(weights, names, strict=True):
            weight.name = name
    return renamed


def _name_nodes(model: ir.Model) -> int:
    renamed = 0
    for node in model.graph.all_nodes():
        name = next((out.name for out in node.outputs if out.name), None)
        if name is not None and node.name != name:
            node.name = name
            renamed += 1
    return renamed


def _names(count: int, kept: set[str | None]) -> list[str]:
    names: list[str] = []
    number = 0
    while len(names) < count:
        name = base_36(number)
        names += [] if name in kept else [name]
        number += 1
    return names
