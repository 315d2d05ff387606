"""Conv, with groups: plain, depthwise and in between.

    y[o] = sum over i of w[o, i] * x[i] + b[o]

A group's weights see the group's inputs by their place in it, so every group must keep as many
inputs and outputs as the others: a count, not a tie.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Limit, Tie, axis_size
from deploypipe.graph.channels.linear import Linear, set_array
from deploypipe.graph.channels.rule import Kept, integer, ints
from deploypipe.graph.constants import constant_of, is_constant


class Conv(Linear):
    """Convolution of any rank with constant weights."""

    ops: ClassVar[frozenset[str]] = frozenset({"Conv"})

    def refusal(self) -> str | None:
        if self.groups > 1 and not is_constant(self.weights) and not self.depthwise:
            return "has groups of quantized weights"
        if self.groups > 1 and not self.depthwise and len(self.weights.uses()) > 1:
            return "has groups whose weights another node reads"  # each would cut them
        return super().refusal()

    @property
    def groups(self) -> int:
        return integer(self.node, "group", 1)

    @property
    def depthwise(self) -> bool:
        """Whether every input has its own outputs, so that it can go with them alone."""
        return self.groups > 1 and self.groups == axis_size(self.x, 1)

    @property
    def borderless(self) -> bool:
        pads = ints(self.node, "pads", [])
        return not any(pads) and not self._auto_pad().startswith("SAME")

    def as_matrix(self, array: np.ndarray) -> np.ndarray:
        outputs, inputs = array.shape[:2]
        return array.reshape(self.groups, outputs // self.groups, inputs, -1)

    def ties(self) -> Iterable[Tie | None]:
        yield Tie.same((self.weights, 0), (self.y, 1))
        if self.bias is not None:
            yield Tie.same((self.bias, 0), (self.y, 1))
        if self.groups == 1:
            yield Tie.same((self.x, 1), (self.weights, 1))
        elif self.depthwise:
            outputs = np.arange(axis_size(self.y, 1) or 0)
            each = len(outputs) // self.groups
            yield Tie((self.x, 1), (self.y, 1), outputs // each, outputs)

    def limits(self) -> Iterable[Limit]:
        if self.groups > 1 and not self.depthwise:
            axes = ((self.x, 1), (self.y, 1))
            sizes = [axis_size(*axis) or 0 for axis in axes]
            index = [np.arange(size).reshape(self.groups, -1) for size in sizes]
            yield Limit(axes, tuple(index))

    def is_sink(self) -> bool:
        return not self.depthwise

    def rewrite(self, kept: Kept) -> None:
        if self.groups == 1:
            return
        left = kept.count(self.x, 1) if self.depthwise else self._cut_groups(kept)
        self.node.attributes["group"] = ir.AttrInt64("group", left)

    def _cut_groups(self, kept: Kept) -> int:
        """Cut the weights' input axis group by group; their outputs go with the others' later."""
        array = constant_of(self.weights)
        assert array is not None  # quantized weights refuse groups
        each = array.shape[1]
        stay = [kept.index(self.x, 1) // each == group for group in range(self.groups)]
        local = [kept.index(self.x, 1)[mine] % each for mine in stay]
        width = max(len(index) for index in local)
        rows = np.split(array, self.groups)
        parts = [
            block[:, index] if len(index) else block[:, :width]
            for block, index in zip(rows, local, strict=True)
        ]
        set_array(self.weights, np.concatenate(parts))
        return sum(bool(len(index)) for index in local)

    def _auto_pad(self) -> str:
        return self.node.attributes.get_string("auto_pad", "NOTSET") or "NOTSET"
