"""BatchNormalization at inference: y = gamma * (x - mean) / sqrt(var + eps) + beta.

A channel with gamma = 0 is the constant beta whatever comes in, and needs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Tie
from deploypipe.graph.channels.rule import LIVE, Needs, Rule, Values, constant, integer


class BatchNorm(Rule):
    """Per-channel scale and shift with stored statistics."""

    ops: ClassVar[frozenset[str]] = frozenset({"BatchNormalization"})

    def ties(self, node: ir.Node) -> Iterable[Tie | None]:
        if not _fixed(node):
            return
        x, y = node.inputs[0], node.outputs[0]
        assert x is not None
        yield Tie.same((x, 1), (y, 1))
        for value in node.inputs[1:5]:
            assert value is not None
            yield Tie.same((value, 0), (y, 1))

    def values(self, node: ir.Node, known: Values) -> None:
        if not _fixed(node):
            return
        gamma, beta, mean, var = (_f64(value) for value in node.inputs[1:5])
        eps = node.attributes.get_float("epsilon", 1e-5)
        x = known.of(node.inputs[0], 1)
        moved = gamma * (x - mean) / np.sqrt(var + eps) + beta
        # Only a constant computed in the tensor's own dtype may be trusted, so a moved constant is
        # called live; gamma = 0 gives beta itself.
        known[node.outputs[0], 1] = np.where(gamma == 0, beta, np.where(moved == 0, 0.0, LIVE))

    def demand(self, node: ir.Node, needs: Needs, known: Values) -> None:
        x = node.inputs[0]
        if x is not None and _fixed(node):
            needs.add(x, 1, needs.of(node.outputs[0], 1) & (_f64(node.inputs[1]) != 0))


def _fixed(node: ir.Node) -> bool:
    weights = [constant(value) for value in node.inputs[1:5]]
    return not integer(node, "training_mode", 0) and all(w is not None for w in weights)


def _f64(value: ir.Value | None) -> np.ndarray:
    array = constant(value)
    assert array is not None
    return array.astype(np.float64)
