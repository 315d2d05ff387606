"""``--set a.b=c``: change a recipe that was read, before it is checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import pairwise
from typing import Any

from deploypipe.core.errors import UserError, did_you_mean
from deploypipe.plain_yaml import NO_YAML, load_yaml

SHORT: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "model": lambda text: {"onnx" if text.endswith(".onnx") else "build": text},
    "data": lambda text: {"source": text},
}
"""What a bare text in an entry of a recipe stands for."""


def change(given: dict[str, Any], asked: str, known: Collection[str]) -> None:
    """Apply ``a.b.0.c=value`` to a recipe with ``known`` entries.

    A step may be named, not numbered, and either way leads to its options at once:
    ``steps.train.epochs=3``, ``steps.0.epochs=3``.

    Raises:
        UserError: it is no such text, or leads nowhere.
    """
    path, equals, text = asked.partition("=")
    if not equals or not path:
        raise UserError(f"expected a.b=value, got {asked!r}", where="--set")
    try:
        value = load_yaml(text)
    except NO_YAML as error:
        raise UserError(f"{text!r} is not a YAML value", where=f"--set {path}") from error
    parts = path.split(".")
    if parts[0] not in known:
        hint = _hint(given, parts, known)
        raise UserError(f"a recipe has no '{parts[0]}', {hint}", where=f"--set {path}")
    place: Any = given
    for part, after in pairwise(parts):
        place = _inside(place, part, after, path)
    place[_key(place, parts[-1], path)] = value


def _hint(given: Mapping[str, Any], parts: list[str], known: Collection[str]) -> str:
    """The path that was meant: a step's name alone is what people write."""
    steps = given.get("steps")
    names = [_name(step) for step in steps] if isinstance(steps, list) else []
    if parts[0] in names and "steps" in known:
        return f"did you mean 'steps.{'.'.join(parts)}'?"
    return did_you_mean(parts[0], known)


def _inside(place: Any, part: str, after: str, path: str) -> Any:
    """What ``part`` leads to on the way to ``after``, made a mapping where it is none yet."""
    key = _key(place, part, path)
    known = isinstance(place, list) or key in place
    inner: Any = _opened(place[key] if known else None, part)
    place[key] = inner
    name = _name(inner) if isinstance(place, list) and isinstance(inner, dict) else None
    # An entry of a list that has a name leads to its options, unless the name comes next.
    if name is None or len(inner) > 1 or (after == name and part != name):
        return inner
    if not isinstance(inner[name], dict | list):
        inner[name] = _opened(inner[name], name)
    return inner[name]


def _opened(value: Any, part: str) -> dict[str, Any] | list[Any]:
    """A mapping or list as it is; a bare name as a mapping that has room for its options."""
    if isinstance(value, dict | list):
        return value
    if not isinstance(value, str):
        return {}
    return SHORT[part](value) if part in SHORT else {value: {}}


def _name(entry: Any) -> Any:
    """Of an entry of a list: a step's, say."""
    return next(iter(entry), None) if isinstance(entry, dict) else entry


def _key(place: Any, part: str, path: str) -> Any:
    """A mapping's key, or the position of a list's entry, by number or by the name of a step."""
    if isinstance(place, dict):
        return part
    names = [_name(entry) for entry in place]
    if part.isdigit() and int(part) < len(place):
        return int(part)
    if names.count(part) == 1:
        return names.index(part)
    if part in names:
        places = ", ".join(str(place) for place, name in enumerate(names) if name == part)
        raise UserError(
            f"'{part}' is there more than once",
            where=f"--set {path}",
            then=f"Give its number instead, one of {places}",
        )
    known = ", ".join(map(str, names))
    raise UserError(f"no entry '{part}'; there are: {known}", where=f"--set {path}")
