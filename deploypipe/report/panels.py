"""What each stage did: one small panel for size, latency, accuracy, with the same rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from markupsafe import Markup

from deploypipe.report import words
from deploypipe.report.headline import find_check
from deploypipe.report.marks import Figure, Mark, whisker
from deploypipe.report.schema import LedgerRow, Report
from deploypipe.report.scores import Score
from deploypipe.report.svg import Scale, line, marker, picture, spanning, tag, text

V = TypeVar("V")

ROW, WIDTH = 30, 300
BARS = (78.0, 222.0)


def ledger_figures(report: Report) -> list[Figure]:
    """Size, latency and accuracy of every ONNX artifact: three panels with the same rows."""
    rows, score = report.ledger, Score.of(report)
    panels = [
        _bars("size", "Size on disk", "Bytes of the whole model.", _sizes(rows)),
        _bars(
            "time",
            "Latency",
            "Bar: time against the reference; whisker: its interval.",
            _times(rows),
        ),
        _dots("accuracy", score.name.capitalize(), _accuracies(report), score, _worst(report)),
    ]
    return [panel for panel in panels if panel]


def role_of(index: int, rows: Sequence[object]) -> str:
    """The first row is the reference, the last the candidate."""
    if index == 0:
        return "reference"
    return "candidate" if index == len(rows) - 1 else "between"


def _marks(
    rows: Sequence[LedgerRow], value: Callable[[LedgerRow], V | None]
) -> list[tuple[LedgerRow, str, V]]:
    """The rows that have a value, each with its role."""
    found = ((row, role_of(index, rows), value(row)) for index, row in enumerate(rows))
    return [(row, role, got) for row, role, got in found if got is not None]


def _sizes(rows: Sequence[LedgerRow]) -> list[Mark]:
    known = _marks(rows, lambda row: row.bytes)
    return [Mark(row.label, count, words.size(count), role) for row, role, count in known]


def _times(rows: Sequence[LedgerRow]) -> list[Mark]:
    """Time over the reference's; the reference itself is 1 whether or not a ratio is noted."""
    known = _marks(rows, lambda row: row.latency_ms)
    first = known[0][2].p50 if known else 1.0
    marks = []
    for row, role, latency in known:
        value = row.ratio.value if row.ratio else latency.p50 / first if first else math.nan
        low, high = (row.ratio.low, row.ratio.high) if row.ratio else (None, None)
        ends = (None, None) if role == "reference" else (low, high)
        marks.append(Mark(row.label, value, words.milliseconds(latency.p50), role, *ends))
    return [mark for mark in marks if math.isfinite(mark.value)]


def _accuracies(report: Report) -> list[Mark]:
    """The candidate carries the interval of its paired drop against the reference."""
    known = _marks(report.ledger, lambda row: row.accuracy)
    score = Score.of(report)
    marks = [
        Mark(row.label, value, score.value(value), role, *_ends(report, role))
        for row, role, value in known
    ]
    return [mark for mark in marks if math.isfinite(mark.value)]


def _ends(report: Report, role: str) -> tuple[float | None, float | None]:
    paired = report.accuracy
    if role != "candidate" or paired is None or paired.reference is None:
        return None, None
    if paired.low is None or paired.high is None:
        return None, None
    score = Score.of(report)
    ends = sorted(score.after(paired.reference, drop) for drop in (paired.low, paired.high))
    return ends[0], ends[1]


def _worst(report: Report) -> float | None:
    """The worst value of the metric that the budget accepts."""
    drop, paired = find_check(report, "drop"), report.accuracy
    if drop is None or drop.limit is None or paired is None or paired.reference is None:
        return None
    worst = Score.of(report).after(paired.reference, drop.limit)
    return worst if math.isfinite(worst) else None


def _bars(key: str, title: str, caption: str, marks: list[Mark]) -> Figure | None:
    """Horizontal bars from zero."""
    if not marks:
        return None
    top = max([mark.value for mark in marks] + [mark.ends[1] for mark in marks if mark.ends])
    scale = Scale(0.0, top or 1.0, *BARS)
    drawn = [_bar(scale, ROW * index, mark) for index, mark in enumerate(marks)]
    axis = line(scale.left, 0, scale.left, ROW * len(marks), "axis")
    svg = picture(key, title, _told(marks), WIDTH, ROW * len(marks) + 2, *drawn, axis)
    return Figure(title, caption, svg)


def _bar(scale: Scale, y: float, mark: Mark) -> Markup:
    x = scale(mark.value)
    bar = tag(
        "rect", x=scale.left, y=y + 8, width=max(x - scale.left, 1.0), height=14, rx=2,
        class_=mark.role,
    )  # fmt: skip
    return Markup("").join([_names(y, mark), bar, whisker(scale, y + 15, mark)])


def _names(y: float, mark: Mark) -> Markup:
    label = text(0, y + 19, words.plain(mark.label, 11), "label")
    return label + text(WIDTH, y + 19, mark.words, "value", "end")


def _dots(
    key: str, title: str, marks: list[Mark], score: Score, worst: float | None = None
) -> Figure | None:
    """Dots on an axis that need not start at zero, because small differences matter here."""
    if not marks:
        return None
    ends = [end for mark in marks if mark.ends for end in mark.ends]
    limits = [] if worst is None else [worst]
    scale = within(score.bounds, [mark.value for mark in marks] + ends + limits)
    bottom = ROW * len(marks)
    drawn = [_dot(scale, ROW * index, mark) for index, mark in enumerate(marks)]
    axis = [
        line(scale.left, bottom, scale.right, bottom, "axis"),
        text(scale.left, bottom + 15, score.value(scale.low), "tick"),
        text(scale.right, bottom + 15, score.value(scale.high), "tick", "end"),
    ]
    dashed = [line(scale(limit), 0, scale(limit), bottom, "limit") for limit in limits]
    svg = picture(key, title, _told(marks), WIDTH, bottom + 20, *dashed, *drawn, *axis)
    told = [f" Dashed: the budget's limit, {score.value(limit)}." for limit in limits]
    start = "starts" if scale.low == 0 else "does not start"
    return Figure(title, f"The axis {start} at zero.{''.join(told)}", svg)


def within(bounds: tuple[float, float], values: Sequence[float]) -> Scale:
    """A scale around the values that stays within what the metric can be."""
    low, high = bounds
    scale = spanning([min(max(value, low), high) for value in values], *BARS)
    return replace(scale, low=max(scale.low, low), high=min(scale.high, high))


def _dot(scale: Scale, y: float, mark: Mark) -> Markup:
    rail = line(scale.left, y + 15, scale.right, y + 15, "rail")
    dot = marker(scale(mark.value), y + 15, mark.role)
    return Markup("").join([_names(y, mark), rail, whisker(scale, y + 15, mark), dot])


def _told(marks: Sequence[Mark]) -> str:
    """The panel as a sentence, for those who hear it."""
    return "; ".join(f"{words.plain(mark.label, 40)} {mark.words}" for mark in marks)
