"""What is on the shelves, with options: the answer to ``deploypipe list``."""

from __future__ import annotations

from deploypipe.core.errors import EnvironmentLacks, UserError, did_you_mean
from deploypipe.core.files import Json
from deploypipe.core.options import describe
from deploypipe.core.shelf import Shelf
from deploypipe.recipe import shelves


def catalogue(kind: str | None = None) -> Json:
    """Kind -> name -> {does, options}; of one kind, or of all.

    Raises:
        UserError: no such kind.
    """
    known = shelves()
    if kind is None:
        return {one: _things(shelf) for one, shelf in sorted(known.items())}
    for spelling in (kind, kind.removesuffix("s"), kind.removesuffix("es"), _singular(kind)):
        if spelling in known:
            return {spelling: _things(known[spelling])}
    things = {name: one for one, shelf in known.items() for name in shelf.names()}
    if kind in things:
        what = f"'{kind}' is a {things[kind]}, not a shelf"
        raise UserError(what, where="list", then=f"See: deploypipe list {things[kind]}")
    raise UserError(f"there is no shelf '{kind}', {did_you_mean(kind, known)}", where="list")


def _singular(kind: str) -> str:
    odd = {"criteria": "criterion", "step": "stage", "steps": "stage"}
    return odd.get(kind, kind)


def _things(shelf: Shelf[object]) -> Json:
    return {name: _thing(shelf, name) for name in shelf.names()}


def _thing(shelf: Shelf[object], name: str) -> Json:
    try:
        options = {line.name: f"{line.type} = {line.default}" for line in describe(shelf.get(name))}
        return {"does": shelf.summary(name).replace("``", ""), "options": options}
    except EnvironmentLacks as error:
        return {"does": str(error), "options": {}}
