"""Norms over what a sample holds: InstanceNormalization, GroupNormalization, LayerNormalization.

An instance norm looks at one channel alone.  A group norm divides by the number of channels in a
group, so only whole groups can go; a layer norm divides by all of them, so none can.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Tie, axis_size
from deploypipe.graph.channels.rule import LIVE, Kept, Needs, Rule, Values, integer
from deploypipe.graph.constants import is_constant


class InstanceNorm(Rule):
    """Zero becomes beta exactly; another constant only up to the rounding of its mean."""

    ops: ClassVar[frozenset[str]] = frozenset({"InstanceNormalization"})

    def refusal(self) -> str | None:
        computed = any(not is_constant(value) for value in self.node.inputs[1:3])
        if computed:
            return "has a scale or shift that is computed"
        return "has an unknown number of channels" if axis_size(self.x, 1) is None else None

    def ties(self) -> Iterable[Tie | None]:
        yield Tie.same((self.x, 1), (self.y, 1))
        for value in self.node.inputs[1:3]:
            assert value is not None
            yield Tie.same((value, 0), (self.y, 1))

    def values(self, known: Values) -> None:
        scale, shift = known.of(self.node.inputs[1], 0), known.of(self.node.inputs[2], 0)
        fixed = (scale == 0) | (known.of(self.x, 1) == 0)
        known[self.y, 1] = np.where(fixed, shift, LIVE)

    def demand(self, needs: Needs, known: Values) -> None:
        scale = known.of(self.node.inputs[1], 0)
        needs.add(self.x, 1, needs.of(self.y, 1) & (scale != 0))


class GroupNorm(Rule):
    """The channels of a group go together."""

    ops: ClassVar[frozenset[str]] = frozenset({"GroupNormalization"})

    def refusal(self) -> str | None:
        if any(not is_constant(value) for value in self.node.inputs[1:3]):
            return "has a scale or shift that is computed"
        return "has an unknown number of channels" if axis_size(self.x, 1) is None else None

    def ties(self) -> Iterable[Tie | None]:
        yield Tie.same((self.x, 1), (self.y, 1))
        size = axis_size(self.x, 1) or 0
        group = np.arange(size) // (size // self._groups)
        yield Tie((self.y, 1), (self.y, 1), np.arange(size), group * (size // self._groups))
        for value in self.node.inputs[1:3]:  # per channel since opset 21, per group before
            assert value is not None
            places = group if axis_size(value, 0) == self._groups else np.arange(size)
            yield Tie((value, 0), (self.y, 1), places, np.arange(size))

    def values(self, known: Values) -> None:
        size = axis_size(self.x, 1) or 0
        zero = (known.of(self.x, 1) == 0).reshape(self._groups, -1).all(1)
        scale, shift = (self._per_channel(known, place) for place in (1, 2))
        fixed = np.repeat(zero, size // self._groups) | (scale == 0)
        known[self.y, 1] = np.where(fixed, shift, LIVE)

    def demand(self, needs: Needs, known: Values) -> None:
        wanted = needs.of(self.y, 1) & (self._per_channel(known, 1) != 0)
        group = wanted.reshape(self._groups, -1).any(1)
        needs.add(self.x, 1, np.repeat(group, len(wanted) // self._groups))

    def rewrite(self, kept: Kept) -> None:
        each = (axis_size(self.x, 1) or 0) // self._groups
        left = kept.count(self.x, 1) // each
        self.node.attributes["num_groups"] = ir.AttrInt64("num_groups", left)

    @property
    def _groups(self) -> int:
        return integer(self.node, "num_groups", 1)

    def _per_channel(self, known: Values, place: int) -> np.ndarray:
        vector = known.of(self.node.inputs[place], 0)
        return np.repeat(vector, (axis_size(self.x, 1) or 0) // len(vector))


class LayerNorm(Rule):
    """Nothing goes on the axes that are normalized; those before pass."""

    ops: ClassVar[frozenset[str]] = frozenset({"LayerNormalization"})

    def refusal(self) -> str | None:
        return "divides by the number of channels, so that none can go"
