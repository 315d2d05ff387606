"""Full blocks: a tensor's width is what kernels see, and several groups may share it.

A residual stream that one stage pads into the next carries the channels of both stages' groups; each
group may be a multiple of the block while the stream is not.  Channels that were to go come back,
the most important ones of the group that touches the fewest tensors first, until every width above
``narrow`` is a multiple of ``block``.  A width of at most ``narrow`` stays: there are other kernels
(and the pass ``space-to-depth``) for those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from deploypipe.compress.ranking import Choice

Width = tuple[str, int]
"""A parameter and one of its axes."""


def fill_blocks(
    choices: Sequence[Choice],
    scores: Sequence[np.ndarray],
    parameters: Mapping[str, np.ndarray],
    *,
    block: int,
    narrow: int,
) -> list[Choice]:
    """Take channels back until all widths fit; ``scores`` are the groups', float64 [channels]."""
    orders = [np.argsort(-score, kind="stable") for score in scores]
    dead = [set(choice.dead.tolist()) for choice in choices]
    touching = _touching(choices, parameters)
    while True:
        lacks = {
            width: _lack(width, dead, touching, parameters, block, narrow) for width in touching
        }
        width = next((width for width, lack in lacks.items() if lack), None)
        if width is None:
            break
        owners = sorted(touching[width], key=lambda i: len(choices[i].group.slices))
        for owner in owners:
            back = [c for c in orders[owner].tolist() if c in dead[owner]][: lacks[width]]
            dead[owner] -= set(back)
            lacks[width] -= len(back)
    return [
        Choice(choice.group, np.array(sorted(gone), np.int64))
        for choice, gone in zip(choices, dead, strict=True)
    ]


def _touching(
    choices: Sequence[Choice], parameters: Mapping[str, np.ndarray]
) -> dict[Width, list[int]]:
    """Output widths of weights -> the groups whose channels lie on them, one cell each."""
    found: dict[Width, list[int]] = {}
    for number, choice in enumerate(choices):
        for part in choice.group.slices:
            weights = parameters.get(part.parameter)
            if (
                weights is not None
                and weights.ndim > 1
                and part.axis == 0
                and part.index.shape[1] == 1
            ):
                found.setdefault((part.parameter, 0), []).append(number)
    return found


def _lack(
    width: Width,
    dead: Sequence[set[int]],
    touching: Mapping[Width, Sequence[int]],
    parameters: Mapping[str, np.ndarray],
    block: int,
    narrow: int,
) -> int:
    """Channels that are missing for a full block; no more than there are."""
    gone = sum(len(dead[owner]) for owner in touching[width])
    kept = parameters[width[0]].shape[width[1]] - gone
    return 0 if kept <= narrow else min(-kept % block, gone)
