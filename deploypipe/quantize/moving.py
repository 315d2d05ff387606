"""Move the difficulty of rounding between activations and weights wherever that foretells less noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph.constants import constant_of
from deploypipe.quantize.correction import Draft
from deploypipe.quantize.foretold import Floats, best_factors, normal
from deploypipe.quantize.plan import constants_of
from deploypipe.quantize.sites import Site, by_input, channel_stats, rescaled

Weights = npt.NDArray[np.float32]

WORTH = 0.97
"""A site is scaled where that leaves less than so much of its noise."""


def moved(draft: Draft, sites: Sequence[Site], grid: Sequence[float], samples: int) -> Draft | None:
    """The draft with the best factors at every site; None where no site gains."""
    if not sites:
        return None
    shop = draft.shop
    stats = channel_stats(shop.model, sites, draft.lessons[:samples], shop.target)
    constants, tensors = constants_of(shop.model), draft.made.plan.tensors
    factors: dict[Site, Floats] = {}
    for site in sites:
        weights = [(_array(constants, unit.weight), unit) for unit in site.readers]
        views = [by_input(weight, unit, site.channels) for weight, unit in weights]
        limit, stat = shop.profile.weight_limit, stats[site.tensor]
        scales = [tensors[name].scale for name in site.tensors if name in tensors]
        equal = [_equal(_array(constants, site.divided[0][0]), site, views)]
        best, left = best_factors(stat, views, grid, limit, max(scales), equal)
        if left < WORTH:
            factors[site] = best
    return rescaled(draft, factors) if factors else None


def _array(constants: Mapping[str | None, ir.Value], name: str | None) -> Weights:
    array = constant_of(constants[name])
    assert array is not None
    return np.asarray(array, np.float32)


def _equal(before: Weights, site: Site, after: Sequence[Weights]) -> Floats:
    """Factors that make the largest weights of a channel equal before and behind the site."""
    axis = site.divided[0][1] % before.ndim
    ours = np.abs(before).max(tuple(i for i in range(before.ndim) if i != axis))
    theirs = np.max([np.abs(one).max((1, 3)).reshape(-1) for one in after], axis=0)
    return np.sqrt(normal(ours.astype(np.float64), theirs.astype(np.float64)))
