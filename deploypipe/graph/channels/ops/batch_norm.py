"""BatchNormalization at inference: y = gamma * (x - mean) / sqrt(var + eps) + beta.

A channel with gamma = 0 is the constant beta whatever comes in, and needs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Tie
from deploypipe.graph.channels.rule import LIVE, Needs, Rule, Values, integer
from deploypipe.graph.constants import constant_of


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
        gamma, beta, mean, _ = (_f64(value) for value in node.inputs[1:5])
        # Runtimes round a moved constant differently, so it is called live; gamma = 0 gives beta
        # itself, and zero stays zero where nothing is added.
        still = (known.of(node.inputs[0], 1) == 0) & (mean == 0) & (beta == 0)
        known[node.outputs[0], 1] = np.where(gamma == 0, beta, np.where(still, 0.0, LIVE))

    def demand(self, node: ir.Node, needs: Needs) -> None:
        x = node.inputs[0]
        if x is not None and _fixed(node):
            needs.add(x, 1, needs.of(node.outputs[0], 1) & (_f64(node.inputs[1]) != 0))


def _fixed(node: ir.Node) -> bool:
    """Whether the statistics are stored and give a finite scale."""
    weights = [constant_of(value) for value in node.inputs[1:5]]
    if integer(node, "training_mode", 0) or any(w is None for w in weights):
        return False
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    return bool((_f64(node.inputs[4]) + epsilon > 0).all())


def _f64(value: ir.Value | None) -> np.ndarray:
    array = constant_of(value)
    assert array is not None
    return array.astype(np.float64)
