"""Initializers with several readers: a copy for each while channels are cut, one again where alike."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import rank
from deploypipe.graph.constants import constant_of, is_constant

Copies = dict[ir.Value, list[ir.Value]]
"""Initializer -> its copies, each with one reader; nothing is copied in memory."""


def part(graph: ir.Graph, but: Collection[str] = ()) -> Copies:
    """Give every reader its own initializer; subgraphs and the graph's outputs keep the first.

    Those whose names are in ``but`` stay shared.
    """
    copies: Copies = {}
    taken = set(graph.initializers)
    for value in list(graph.initializers.values()):
        uses = [use for use in value.uses() if use.node.graph is graph]
        if not is_constant(value) or not rank(value) or value.name in but:
            continue
        if value.is_graph_output():
            continue
        for use in uses[1 if len(uses) == len(value.uses()) else 0 :]:
            name = _free(f"{value.name}.copy", taken)
            copy = ir.Value(
                name=name, shape=value.shape, type=value.type, const_value=value.const_value
            )
            graph.register_initializer(copy)
            use.node.replace_input_with(use.idx, copy)
            copies.setdefault(value, []).append(copy)
    return copies


def unite(graph: ir.Graph, copies: Copies) -> set[str]:
    """Make one again of an initializer and its copies, where they are still equal.

    Returns:
        The names of those that are not: they are several weights now.
    """
    torn = set()
    for value, others in copies.items():
        firsts = [value]
        for copy in others:
            if not copy.uses():
                graph.initializers.pop(str(copy.name), None)
                continue
            same = next((first for first in firsts if _equal(first, copy)), None)
            if same is None:
                firsts.append(copy)
                torn.add(str(value.name))
            else:
                ir.convenience.replace_all_uses_with(copy, same)
                graph.initializers.pop(str(copy.name), None)
    return torn


def _equal(left: ir.Value, right: ir.Value) -> bool:
    if left.const_value is right.const_value:
        return True
    a, b = constant_of(left), constant_of(right)
    return a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b)


def _free(wish: str, taken: set[str]) -> str:
    name, number = wish, 0
    while name in taken:
        number += 1
        name = f"{wish}{number}"
    taken.add(name)
    return name
