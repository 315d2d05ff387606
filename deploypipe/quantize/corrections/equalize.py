"""Cross-layer equalization: channels of neighbouring layers share the difficulty of rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deploypipe.quantize.correction import Correction, Draft
from deploypipe.quantize.foretold import GRID
from deploypipe.quantize.moving import moved
from deploypipe.quantize.sites import layer_sites


@dataclass(frozen=True)
class Equalize(Correction):
    """Scale channels between two layers with a Relu, pooling or nothing between them.

    Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019
    (arXiv:1906.04721), equation 11.  Where weights have a scale for each channel, what counts is
    the width of the activation's channels, so their observed extremes are tried beside that formula
    and the least foretold noise decides.  Not through a Clip, whose limit would be another one for
    each channel.  Costs about one inference of at most ``samples`` samples, and their observation.
    """

    samples: int = 16

    order: ClassVar[int] = 20

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")

    def propose(self, draft: Draft) -> Draft | None:
        """All sites at once."""
        sites = layer_sites(draft.shop.model, draft.made.plan.units)
        return moved(draft, sites, GRID, self.samples)
