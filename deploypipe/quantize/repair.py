"""Put units back to float until the outputs are as near to the float model's as was asked for.

Which ones is foretold from the noise that each brings alone and, where they are known, from times.
That noises add up is only an estimate, so what it promises is measured, and if it was too hopeful,
more units follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from deploypipe.core.progress import Progress
from deploypipe.quantize.correct import Step, correct
from deploypipe.quantize.correction import Correction, Draft
from deploypipe.quantize.floor import Floor
from deploypipe.quantize.noise import TABLES, Noise, noise_of, power_of
from deploypipe.quantize.placement import place
from deploypipe.quantize.signal import decibels
from deploypipe.quantize.sparing import Sparing, noisiest
from deploypipe.quantize.workshop import NothingLeftError

ROUNDS = 5
CAUTION = 0.7
"""By how much less noise is allowed for while no round has kept the floor."""
NEAR, BOLDNESS = 1.0, 0.7
"""dB above the floor that are let be, and the share of more that is given back."""


def repaired(
    first: Draft,
    corrected: Draft,
    floor: Floor,
    corrections: Sequence[Correction],
    ways: Sequence[Sparing] = (noisiest,),
    progress: Progress | None = None,
) -> list[tuple[Draft, list[Step]]]:
    """Corrected drafts whose outputs keep ``floor``, one for each of ``ways`` that differs.

    None if no unit can stay in 8 bits, or if the outputs cannot be compared.  ``first`` is the draft
    before corrections, ``corrected`` after them; if that is good enough, it alone comes back, without
    any step.  Measured on the samples that corrections are judged on.
    """
    short = floor.shortfall(corrected)
    if short <= 0:
        return [(corrected, [])]
    if math.isnan(short):
        return []
    plan, noise = corrected.made.plan, noise_of(corrected)
    least = decibels(1.0, noise.together) + short

    def reached(draft: Draft) -> float:
        return least - floor.shortfall(draft)

    tried: dict[frozenset[str], tuple[float, tuple[Draft, list[Step]] | None]] = {}
    reasons = {**dict.fromkeys(first.shop.forms, "it has another form"), **plan.kept_float}
    names = {unit.name for unit in first.shop.found.units}
    before = {name: why for name, why in reasons.items() if name in names}

    def make(spared: Sequence[str]) -> float:
        key = frozenset(spared)
        if key not in tried:
            put_back = {name: _reason(noise.power, name, floor.why) for name in spared}
            made = _made_without(first, {**before, **put_back}, spared)
            done = None if made is None else correct(made, corrections, progress)
            tried[key] = (-math.inf if done is None else reached(done[0])), done
        return tried[key][0]

    ends = dict.fromkeys(frozenset(repair(noise, least, make, way)) for way in ways)
    found = (tried[key] for key in ends if key in tried)
    return [done for kept, done in found if done is not None and kept >= least]


def repair(
    noise: Noise,
    floor_db: float,
    make: Callable[[Sequence[str]], float],
    way: Sparing = noisiest,
) -> Sequence[str]:
    """The units to put back: ``make`` carries that out and gives the dB that it reached.

    All, if no round reaches the floor; if one goes far beyond it, the next ones put fewer back.
    """
    best: Sequence[str] | None = None
    slack: dict[frozenset[str], float] = {frozenset(): -math.inf}
    kept, failed, allowed = 0.0, math.inf, power_of(floor_db)
    for _ in range(ROUNDS):
        spared = way(noise, allowed)
        key = frozenset(spared)
        if key not in slack:
            slack[key] = make(spared) - floor_db
        if slack[key] >= 0:
            best, kept = spared, allowed
            if slack[key] < NEAR:
                break
        else:
            failed = allowed
        allowed = _between(kept, failed, slack[key])
    return list(noise.power) if best is None else best


def _between(kept: float, failed: float, slack: float) -> float:
    """The power to try next: what kept the floor and what did not are the ends."""
    if not kept:
        return failed * CAUTION
    if math.isinf(failed):
        return float(kept * 10 ** (BOLDNESS * slack / 10))
    return math.sqrt(kept * failed)


def _made_without(first: Draft, kept: Mapping[str, str], spared: Sequence[str]) -> Draft | None:
    """With ``kept`` not in static 8 bits, and nothing that is ``spared`` in another form."""
    shop = replace(
        first.shop,
        embeddings=first.shop.embeddings and TABLES not in spared,
        forms={unit: form for unit, form in first.shop.forms.items() if unit not in spared},
    )
    try:
        placement = place(shop.model, shop.found, kept, follow=False)
        return Draft(shop, shop.make(placement, kept, follow=False))
    except NothingLeftError:
        return None


def _reason(power: Mapping[str, float], name: str, why: str) -> str:
    share = power[name] / sum(power.values())
    if not share:
        return f"what is around it is float, and {why}"
    return f"it alone brings {100 * share:.0f} % of the noise, and {why}"
