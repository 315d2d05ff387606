"""Resize and Upsample: axes that keep their size pass; the weights of the others add up to one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Tie, axis_size, rank
from deploypipe.graph.channels.rule import LIVE, Kept, Rule, Values, constant_ints, ints
from deploypipe.graph.constants import add_initializer, constant_of, input_of


class Resize(Rule):
    """By constant scales or to sizes, constant or not on the axes that change."""

    ops: ClassVar[frozenset[str]] = frozenset({"Resize", "Upsample"})

    def refusal(self) -> str | None:
        if input_of(self.node, 3) is not None and constant_ints(self.node, 3) is None:
            return "has sizes that are computed"
        return None

    def ties(self) -> Iterable[Tie | None]:
        for axis in self._still():
            yield Tie.same((self.x, axis), (self.y, axis))

    def values(self, known: Values) -> None:
        super().values(known)
        if self._mode("coordinate_transformation_mode") != "tf_crop_and_resize":
            return
        for axis in self._still():  # pixels from outside have a value of their own
            vector = known.of(self.y, axis)
            outside = self.node.attributes.get_float("extrapolation_value", 0.0)
            known[self.y, axis] = np.where(vector == outside, vector, LIVE)

    def rewrite(self, kept: Kept) -> None:
        """Write the new sizes where sizes are asked for."""
        sizes, graph = constant_ints(self.node, 3), self.node.graph
        if sizes is None:
            return
        assert isinstance(graph, ir.Graph)
        for place, axis in enumerate(self._axes(len(sizes))):
            if (self.y, axis) in kept.removed:
                sizes[place] = kept.count(self.y, axis)
        new = add_initializer(graph, f"{self.y.name}.sizes", np.array(sizes, np.int64))
        self.node.replace_input_with(3, new)

    def _still(self) -> list[int]:
        """The axes that surely keep their cells."""
        changed: set[int] = set()
        old = self.node.op_type == "Upsample" or len(self.node.inputs) == 2  # Resize of opset 10
        scales = constant_of(input_of(self.node, 1 if old else 2))
        if scales is not None and scales.size:
            axes = self._axes(scales.size)
            changed = {axis for axis, scale in zip(axes, scales, strict=True) if scale != 1}
        elif input_of(self.node, 3) is None and "scales" not in self.node.attributes:
            return []
        return [
            axis
            for axis in range(rank(self.x) or 0)
            if axis not in changed | self._cropped()
            and axis_size(self.x, axis) == axis_size(self.y, axis)
        ]

    def _cropped(self) -> set[int]:
        """The axes of which another part than the whole may be shown."""
        everything = set(range(rank(self.x) or 0))
        if self._mode("coordinate_transformation_mode") != "tf_crop_and_resize":
            return set()
        part = constant_of(input_of(self.node, 1))
        if part is None:
            return everything
        axes = self._axes(part.size // 2)
        bounds = zip(axes, part[: len(axes)], part[len(axes) :], strict=True)
        return {axis for axis, start, end in bounds if (start, end) != (0, 1)}

    def _axes(self, count: int) -> list[int]:
        given = ints(self.node, "axes", [])
        return [axis % (rank(self.x) or 1) for axis in given] if given else list(range(count))

    def _mode(self, name: str) -> str:
        return self.node.attributes.get_string(name, "") or ""
