"""Stage by stage: what each changed, what it refused and why, its options and its seconds."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from deploypipe.core.files import Json
from deploypipe.core.options import in_words
from deploypipe.report import words
from deploypipe.report.schema import Report, StageEntry

_ELSEWHERE = {"channels", "channel_proofs"}
"""Notes that have a section of their own."""

OPEN = 8
"""Lines that a list shows before it folds."""


@dataclass(frozen=True)
class Lines:
    """The lines of a list that fit; ``left`` more are only in ``report.json``."""

    shown: tuple[str, ...]
    left: int

    @property
    def total(self) -> int:
        """All lines, shown or not."""
        return len(self.shown) + self.left

    @property
    def folded(self) -> bool:
        """Whether the list is long enough to be folded."""
        return self.total > OPEN


@dataclass(frozen=True)
class StageWords:
    """One stage, ready to be set."""

    title: str
    facts: str
    options: list[tuple[str, str]]
    changes: Lines
    refusals: Lines
    notes: str


def stages(report: Report, room: int) -> list[StageWords]:
    """Every stage; all lists and notes together take about ``room`` characters once escaped.

    A large model's passes can tell ten thousand changes, and a page must stay small.
    """
    share = room // (3 * max(1, len(report.stages)))
    return [_stage(stage, share) for stage in report.stages]


def _stage(stage: StageEntry, share: int) -> StageWords:
    sizes = words.size(stage.bytes) if stage.bytes is not None else ""
    facts = [words.plain(stage.kind or "", 20), sizes]
    facts += [words.seconds(stage.seconds)] if stage.seconds is not None else []
    facts += [f"sha256 {words.shortened(stage.digest)}"] if stage.digest else []
    facts += [words.moment(stage.made)] if stage.made else []
    return StageWords(
        title=words.plain(stage.step, 60),
        facts=" \N{MIDDLE DOT} ".join(filter(None, facts)),
        options=pairs(stage.options)[:60],
        changes=fitting(stage.changes, share),
        refusals=fitting(stage.refusals, share),
        notes=fitting_json({k: v for k, v in stage.notes.items() if k not in _ELSEWHERE}, share),
    )


def fitting(lines: Sequence[str], room: int) -> Lines:
    """The first lines that fit into ``room`` characters once escaped."""
    shown: list[str] = []
    for each in lines:
        text = words.plain(each)
        room -= len(escape(text)) + 16
        if room < 0:
            break
        shown.append(text)
    return Lines(tuple(shown), len(lines) - len(shown))


def fitting_json(value: Json, room: int) -> str:
    """JSON for reading, cut where it would not fit."""
    if not value:
        return ""
    shown: list[str] = []
    for each in json.dumps(value, indent=2, ensure_ascii=False, default=str).split("\n"):
        indent = " " * (len(each) - len(each.lstrip(" ")))
        shown.append(indent + words.plain(each))
        room -= len(escape(shown[-1])) + 1
        if room < 0:
            return "\n".join([*shown[:-1], "\N{HORIZONTAL ELLIPSIS} the rest is in report.json"])
    return "\n".join(shown)


def pairs(values: Mapping[str, Json], prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as flat name and value; lists on one line."""
    told: list[tuple[str, str]] = []
    for key, value in values.items():
        name = words.plain(f"{prefix}{key}", 60)
        if isinstance(value, Mapping) and value:
            told += pairs(value, f"{name}.")
        else:
            told.append((name, _value(value)))
    return told


def _value(value: Json) -> str:
    if isinstance(value, str):
        return words.plain(value, 200)
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list) and all(isinstance(each, str | int | float) for each in value):
        return words.plain(", ".join(map(_value, value)), 200)
    return words.plain(in_words(value), 200)


def command(report: Report) -> str:
    """The command line that reproduces the run."""
    given = report.command
    return words.plain(shlex.join(given) if isinstance(given, list) else given or "", 1000)
