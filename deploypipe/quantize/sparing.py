"""Which units to put back to float so that the others bring less noise than is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable

from deploypipe.quantize.costs import Costs
from deploypipe.quantize.noise import Noise

Sparing = Callable[[Noise, float], list[str]]
"""Noise, and the power that is allowed of it -> the units to put back, all if it must be."""

_STEPS = 24
"""Halvings of the price's logarithm: a set of units changes at far fewer prices."""


def noisiest(noise: Noise, allowed: float) -> list[str]:
    """Those that bring most go first, whatever they cost."""
    spared, kept = list[str](), sorted(noise.power, key=noise.power.__getitem__)
    while kept and noise.of(kept) > allowed:
        spared.append(kept.pop())
    return spared


def cheapest_at(costs: Costs, border: float) -> Sparing:
    """Those whose way back costs least, conversions included, for the noise that they bring.

    Noise has a price in microseconds, and the cheapest placement is a minimum cut as before; the
    price rises until the noise is low enough (Everett, "Generalized Lagrange multiplier method",
    1963: what is cheapest at a price is cheapest among all with no more noise).
    """

    def spare(noise: Noise, allowed: float) -> list[str]:
        others = dict.fromkeys(costs.in_int.keys() - noise.power.keys(), math.inf)

        def kept(price: float) -> frozenset[str]:
            burden = {name: price * power for name, power in noise.power.items()}
            return costs.cheapest(border, burden={**others, **burden})

        total = sum(costs.in_float.values())
        low, high = math.log(1e-3 * total / max(noise.together, 1e-30)), math.log(1e12 * total)
        best = kept(math.exp(high))
        for _ in range(_STEPS):
            middle = (low + high) / 2
            found = kept(math.exp(middle))
            if noise.of(found) <= allowed:
                high, best = middle, found
            else:
                low = middle
        return [name for name in noise.power if name not in best]

    return spare
