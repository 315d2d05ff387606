"""The samples whose answers moved most, with their pictures where they are images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploypipe.core.files import Json
from deploypipe.report import words
from deploypipe.report.png import is_picture
from deploypipe.report.schema import Report

SHOWN = 20
ROOM = 120_000
"""Characters that all pictures together may take."""

FLIPS = {(True, False): "became wrong", (False, True): "became right"}


@dataclass(frozen=True)
class SampleWords:
    """One sample; ``picture`` is a data URI or empty."""

    id: str
    picture: str
    answer: str
    flip: str
    facts: str


def worst_samples(report: Report) -> list[SampleWords]:
    """At most twenty, the worst first."""
    told = report.drift.get("worst_samples") or [
        {"id": each} for each in report.drift.get("worst") or []
    ]
    names = _classes(report)
    room, found = ROOM, []
    for one in [one for one in told if isinstance(one, Mapping)][:SHOWN]:
        uri = report.pictures.get(str(one.get("id")), "")
        uri = uri if is_picture(uri) and len(uri) <= room else ""
        room -= len(uri)
        found.append(_sample(one, uri, names))
    return found


def _classes(report: Report) -> Sequence[Any]:
    classes = (report.data.model_extra or {}).get("classes") if report.data else None
    return classes if isinstance(classes, list) else []


def _sample(one: Mapping[str, Json], uri: str, names: Sequence[Any]) -> SampleWords:
    was, now, label = (one.get(key) for key in ("reference", "candidate", "label"))
    facts = [f"label {_name(label, names)}"] if label is not None else []
    facts += [f"moved {words.number(float(one['error']))}"] if _real(one.get("error")) else []
    answer = ""
    if was is not None and now is not None:
        arrow = f"{_name(was, names)} \N{RIGHTWARDS ARROW} {_name(now, names)}"
        answer = arrow if was != now else f"{_name(now, names)}, as before"
    flip = ""
    if None not in (was, now, label) and was != now:
        flip = FLIPS.get((was == label, now == label), "wrong as before")
    return SampleWords(words.plain(one.get("id", ""), 60), uri, answer, flip, ", ".join(facts))


def _name(value: Json, names: Sequence[Any]) -> str:
    whole = isinstance(value, int | float) and math.isfinite(value) and value == int(value)
    if whole and 0 <= value < len(names):
        return words.plain(names[int(value)], 30)
    return words.plain(int(value) if whole else value, 30)


def _real(value: Json) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
