"""The factors of a site that make the least rounding noise, foretold from what its channels hold.

Rounding an activation with step d adds d^2/12 to the variance of every value that is not zero,
rounding a weight likewise, so that at the readers' outputs

    activations  d(s)^2 / 12 * sum_i alive_i s_i^2 sum_ok w_oik^2
    weights      sum_o d_o(s)^2 / 12 * sum_ik E[x_i^2] / s_i^2

where d(s) grows like the widest channel after division, from the step that the tensor has now, and
d_o(s) is that of the largest weight after multiplication.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from deploypipe.quantize.sites import ChannelStats

Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.float32]

GRID = (0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0)
"""How much of the difficulty moves from activations to weights; 1 makes all channels equally
wide."""
_LARGEST = 1e3


def best_factors(
    stats: ChannelStats,
    readers: Sequence[Weights],
    grid: Sequence[float],
    weight_limit: int,
    step: float,
    more: Sequence[Floats] = (),
) -> tuple[Floats, float]:
    """The best float64 [channels] factors of a grid, and their noise relative to none at all.

    ``readers`` are float32 [groups, outputs, inputs, taps], ``step`` is the tensor's scale; for
    ``grid`` see Xiao et al. 2022 (arXiv:2211.10438), equation 4; ``more`` are others to consider.
    """
    weight = np.max([np.abs(one).max((1, 3)).reshape(-1) for one in readers], axis=0)
    wide = np.maximum(stats.high, -stats.low)
    tried = [np.ones_like(wide)]
    tried += [normal(wide**share, weight.astype(np.float64) ** (1 - share)) for share in grid]
    tried += more
    first = max(_width(stats, tried[0]), float(np.finfo(np.float32).tiny))
    steps = [step * _width(stats, s) / first for s in tried]
    noises = [_noise(s, d, stats, readers, weight_limit) for s, d in zip(tried, steps, strict=True)]
    best = int(np.argmin(noises))
    return tried[best], noises[best] / max(noises[0], float(np.finfo(np.float64).tiny))


def normal(over: Floats, under: Floats) -> Floats:
    """over / under with a geometric mean of 1; 1 where either is zero: such a channel is dead."""
    alive = (over > 0) & (under > 0)
    logs = np.log(np.where(alive, over, 1.0)) - np.log(np.where(alive, under, 1.0))
    logs = logs - logs[alive].mean() if alive.any() else logs
    limit = np.log(_LARGEST)
    return np.asarray(np.where(alive, np.exp(np.clip(logs, -limit, limit)), 1.0))


def _width(stats: ChannelStats, s: Floats) -> float:
    return float(max((stats.high / s).max(), 0.0) - min((stats.low / s).min(), 0.0))


def _noise(
    s: Floats, step: float, stats: ChannelStats, readers: Sequence[Weights], weight_limit: int
) -> float:
    total = 0.0
    for one in readers:
        groups, _, inputs, taps = one.shape
        factor, power = s.reshape(groups, inputs), (stats.square / s**2).reshape(groups, inputs)
        energy = np.einsum("goik,goik->gi", one, one).astype(np.float64)
        total += step**2 * float((energy * factor**2 * stats.alive.reshape(factor.shape)).sum())
        peaks = (np.abs(one).max(3) * factor[:, None]).max(2) / weight_limit  # [groups, outputs]
        total += float((peaks**2 * (taps * power.sum(1))[:, None]).sum())
    return total / 12
