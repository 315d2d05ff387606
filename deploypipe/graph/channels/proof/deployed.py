"""The removal as it will run, at two sizes: the one that is asked for, and another, odd one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import onnx_ir as ir

from deploypipe.core.errors import UserError
from deploypipe.graph.channels.proof.finding import Finding, not_applicable, shapes_of
from deploypipe.graph.channels.proof.permutation import NAME, as_deployed
from deploypipe.graph.channels.proof.sizes import (
    Feeds,
    free_symbols,
    odd_feeds,
    open_feeds,
    resized,
)
from deploypipe.graph.check import Run
from deploypipe.graph.files import weight_bytes

LARGE = 200_000_000
"""Bytes of weights above which the noise is that of one permutation instead of three."""


def deployed(before: ir.Model, after: ir.Model, run: Run, feeds: Feeds) -> list[Finding]:
    """What :func:`as_deployed` finds on ``feeds``, and at a second size if the model runs there.

    ``run`` raises UserError for a model or inputs that do not fit.  Inputs that the model fixes are
    declared anew for the second size.  There it owes nothing, for what is removed may rest on the
    size it declares: so a difference there is told, but refutes nothing.
    """
    draws = 3 if weight_bytes(before) <= LARGE else 1
    first = as_deployed(before, after, run, feeds, draws)
    second = _open if free_symbols(before) else _fixed
    return [replace(first, shapes=shapes_of(feeds)), second(before, after, run, feeds, draws)]


def _open(before: ir.Model, after: ir.Model, run: Run, feeds: Feeds, draws: int) -> Finding:
    why = "no second size: the model takes none of those tried"
    for other in _others(before, feeds):
        try:
            run(before, other)
        except UserError as error:
            why = f"no second size: at {_told(other)} {_short(error)}"
            continue
        return replace(as_deployed(before, after, run, other, draws), shapes=shapes_of(other))
    return not_applicable(NAME, 0.0, why)


def _others(model: ir.Model, feeds: Feeds) -> Iterator[Feeds]:
    sizes = {name: array.shape[1:] for name, array in feeds.items()}
    for other in open_feeds(model):
        if any(array.shape[1:] != sizes.get(name) for name, array in other.items()):
            yield other


def _fixed(before: ir.Model, after: ir.Model, run: Run, feeds: Feeds, draws: int) -> Finding:
    why = "no second size: the model fixes those of its inputs, and none of them is large"
    for other in odd_feeds(feeds):
        changed = resized(before, other)
        try:
            run(changed, other)
        except UserError as error:
            why = (
                f"no second size: the model fixes its inputs, and at {_told(other)} {_short(error)}"
            )
            continue
        found = as_deployed(changed, resized(after, other), run, other, draws)
        if found.ok is False:
            what = f"at {_told(other)}, which the model does not declare, {found.why}"
            return not_applicable(NAME, found.limit, what)
        return replace(found, shapes=shapes_of(other))
    return not_applicable(NAME, 0.0, why)


def _told(feeds: Feeds) -> str:
    return ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())


def _short(error: UserError) -> str:
    return error.what if len(error.what) < 200 else f"{error.what[:200]} ..."
