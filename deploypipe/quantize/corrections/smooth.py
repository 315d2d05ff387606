"""SmoothQuant, folded into the normalisation before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deploypipe.quantize.correction import Correction, Draft
from deploypipe.quantize.foretold import GRID
from deploypipe.quantize.moving import moved
from deploypipe.quantize.sites import norm_sites


@dataclass(frozen=True)
class Smooth(Correction):
    """Channels that are wide in the activation are made wide in the weights instead.

    Xiao et al., "SmoothQuant", 2022 (arXiv:2211.10438): between a LayerNormalization, or a
    multiplication by constants as in RMS norm, and the linear layers that alone read it.  ``alpha``
    is chosen for every site from a grid by the rounding noise that it foretells, unless it is given.
    Costs about one inference of at most ``samples`` samples, and their observation.
    """

    alpha: float | None = None
    samples: int = 16

    order: ClassVar[int] = 10

    def __post_init__(self) -> None:
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1], got {self.alpha:g}")
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")

    def propose(self, draft: Draft) -> Draft | None:
        """All sites at once."""
        sites = norm_sites(draft.shop.model, draft.made.plan.units)
        return moved(draft, sites, GRID if self.alpha is None else (self.alpha,), self.samples)
