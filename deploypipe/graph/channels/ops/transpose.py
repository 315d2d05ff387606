"""Transpose: axes change places."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import onnx_ir as ir

from deploypipe.graph.channels.cells import Tie, rank
from deploypipe.graph.channels.rule import Rule, ints


class Transpose(Rule):
    """y's axis k is x's axis perm[k]."""

    ops: ClassVar[frozenset[str]] = frozenset({"Transpose"})

    def ties(self, node: ir.Node) -> Iterable[Tie | None]:
        x, y = node.inputs[0], node.outputs[0]
        if x is None or rank(x) is None:
            return
        order = ints(node, "perm", list(reversed(range(rank(x) or 0))))
        for axis, source in enumerate(order):
            yield Tie.same((x, source), (y, axis))
