"""DepthToSpace and SpaceToDepth: b*b channels become one with b*b times the pixels, and back.

DCR: channel j*C' + k    CRD: channel k*b*b + j    becomes pixel j of channel k
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from deploypipe.graph.channels.cells import Tie, axis_size
from deploypipe.graph.channels.rule import Rule, integer


class DepthSpace(Rule):
    """A channel goes with all the channels that its pixels come from."""

    ops: ClassVar[frozenset[str]] = frozenset({"DepthToSpace", "SpaceToDepth"})

    def refusal(self) -> str | None:
        unknown = axis_size(self.x, 1) is None or axis_size(self.y, 1) is None
        return "has an unknown number of channels" if unknown else None

    def ties(self) -> Iterable[Tie | None]:
        pixels = integer(self.node, "blocksize", 1) ** 2
        deep = np.arange(max(axis_size(self.x, 1) or 0, axis_size(self.y, 1) or 0))
        flat = deep % (len(deep) // pixels)
        mode = self.node.attributes.get_string("mode", "DCR")
        if self.node.op_type == "DepthToSpace":
            yield Tie((self.x, 1), (self.y, 1), deep, deep // pixels if mode == "CRD" else flat)
        else:
            yield Tie((self.x, 1), (self.y, 1), flat, deep)
