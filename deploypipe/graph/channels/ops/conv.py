"""Conv, with groups: plain, depthwise and in between.

    y[o] = sum over i of w[o, i] * x[i] + b[o]

Output o is the constant b[o] where every weight that meets a live input is zero, whatever the
padding.  Input i is needed where some needed output has a weight for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Index, Tie, axis_size
from deploypipe.graph.channels.rule import LIVE, Kept, Needs, Rule, Values, integer
from deploypipe.graph.constants import constant_of, input_of


class Conv(Rule):
    """Convolution of any rank with constant weights."""

    ops: ClassVar[frozenset[str]] = frozenset({"Conv"})

    def ties(self, node: ir.Node) -> Iterable[Tie | None]:
        x, w, y = node.inputs[0], node.inputs[1], node.outputs[0]
        if x is None or w is None or _weights(node) is None:
            return
        yield Tie.same((w, 0), (y, 1))
        bias = input_of(node, 2)
        if bias is not None:
            yield Tie.same((bias, 0), (y, 1))
        yield from self._input_ties(node, x, w, y)

    def _input_ties(
        self, node: ir.Node, x: ir.Value, w: ir.Value, y: ir.Value
    ) -> Iterable[Tie | None]:
        groups, channels, outputs = _sizes(node, x, w)
        each_in, each_out = channels // groups, outputs // groups
        if groups == 1:
            yield Tie.same((x, 1), (w, 1))
        elif each_in == 1:
            # Depthwise: a channel goes with all of its outputs.
            yield Tie((x, 1), (y, 1), np.arange(outputs) // each_out, np.arange(outputs))
        else:
            # Every group keeps as many as the others: the same local indices go everywhere.
            yield Tie((x, 1), (w, 1), np.arange(channels), np.arange(channels) % each_in)
            first: Index = np.arange(outputs) % each_out
            yield Tie((y, 1), (y, 1), np.arange(outputs), first)

    def values(self, node: ir.Node, known: Values) -> None:
        x, y, weights = node.inputs[0], node.outputs[0], _weights(node)
        if weights is None:
            return
        meets = _nonzero(node, weights) & (known.of(x, 1) != 0).reshape(_groups(node), 1, -1)
        bias = self._bias(node, weights.shape[0])
        known[y, 1] = np.where(meets.any(-1).reshape(-1), LIVE, bias)

    def demand(self, node: ir.Node, needs: Needs) -> None:
        x, y, weights = node.inputs[0], node.outputs[0], _weights(node)
        if x is None or weights is None:
            return
        needed = needs.of(y, 1).reshape(_groups(node), -1, 1)
        needs.add(x, 1, (_nonzero(node, weights) & needed).any(1).reshape(-1))
        bias = input_of(node, 2)
        if bias is not None:
            needs.add(bias, 0, needs.of(y, 1))

    def rewrite(self, node: ir.Node, kept: Kept) -> None:
        x, w = node.inputs[0], node.inputs[1]
        if x is None or w is None or _groups(node) == 1:
            return
        groups, channels, _ = _sizes(node, x, w)
        if channels == groups:
            node.attributes["group"] = ir.AttrInt64("group", kept.count(x, 1))

    @staticmethod
    def _bias(node: ir.Node, outputs: int) -> np.ndarray:
        if input_of(node, 2) is None:
            return np.zeros(outputs)
        bias = constant_of(node.inputs[2])
        return np.full(outputs, LIVE) if bias is None else bias.astype(np.float64)


def _weights(node: ir.Node) -> np.ndarray | None:
    """The weights, if they are constant and the channels on both sides are known."""
    x, y = node.inputs[0], node.outputs[0]
    known = x is not None and axis_size(x, 1) is not None and axis_size(y, 1) is not None
    return constant_of(node.inputs[1]) if known else None


def _groups(node: ir.Node) -> int:
    return integer(node, "group", 1)


def _sizes(node: ir.Node, x: ir.Value, w: ir.Value) -> tuple[int, int, int]:
    return _groups(node), axis_size(x, 1) or 0, axis_size(w, 0) or 0


def _nonzero(node: ir.Node, weights: np.ndarray) -> np.ndarray:
    """bool [groups, outputs per group, inputs per group]: some weight is not zero."""
    any_tap = (weights.reshape(*weights.shape[:2], -1) != 0).any(-1)
    return np.asarray(any_tap.reshape(_groups(node), -1, weights.shape[1]))
