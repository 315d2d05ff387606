"""What each step was worth: size, latency and metric, each against the step before it."""

from __future__ import annotations

from dataclasses import dataclass

from deploypipe.report import words
from deploypipe.report.schema import Interval, LedgerRow, Moment, Report
from deploypipe.report.scores import Score

ALIKE = "not told apart"
"""What is said of a difference whose interval holds "none"."""


@dataclass(frozen=True)
class Cell:
    """A value and what the step did to it."""

    value: str = words.NOTHING
    change: str = ""
    note: str = ""


@dataclass(frozen=True)
class LedgerLine:
    """One step as words."""

    label: str
    size: Cell
    latency: Cell
    score: Cell


def ledger(report: Report) -> list[LedgerLine]:
    """Every ONNX artifact in order, and the torch stages, of which only the metric is known."""
    places = {str(stage.step): place for place, stage in enumerate(report.stages)}
    waiting = sorted(report.history, key=lambda one: places.get(one.label, -1))
    lines: list[LedgerLine] = []
    score = Score.of(report)
    before: LedgerRow | None = None
    for row in report.ledger:
        here, since = places.get(row.label, -1 if before is None else len(places)), ""
        while waiting and places.get(waiting[0].label, -1) < here:
            lines.append(_moment(waiting.pop(0), score))
            since = "" if before is None else f"against {words.plain(before.label, 40)}"
        lines.append(_line(row, before, score, since))
        before = row
    return [*lines, *(_moment(one, score) for one in waiting)]


def _moment(moment: Moment, score: Score) -> LedgerLine:
    return LedgerLine(
        words.plain(moment.label, 60), Cell(), Cell(), Cell(score.value(moment.accuracy))
    )


def _line(row: LedgerRow, before: LedgerRow | None, score: Score, since: str) -> LedgerLine:
    """``since`` tells what the row stands against where there are torch stages between."""
    milliseconds = words.milliseconds(row.latency_ms.p50 if row.latency_ms else None)
    size, value = words.size(row.bytes), score.value(row.accuracy)
    label = words.plain(row.label, 60)
    if before is None:
        return LedgerLine(label, Cell(size), Cell(milliseconds), Cell(value))
    smaller = words.change(before.bytes, row.bytes, "smaller", "larger")
    return LedgerLine(
        label,
        _cell(size, (_known(smaller), ""), since),
        _cell(milliseconds, _time(row, before), since),
        _cell(value, _score(row, before, score), since),
    )


def _cell(value: str, told: tuple[str, str], since: str) -> Cell:
    change, note = told
    return Cell(value, change, ", ".join(filter(None, [note, since if change else ""])))


def _time(row: LedgerRow, before: LedgerRow) -> tuple[str, str]:
    """How much faster this step made it, with the interval of the speed-up."""
    step = row.step
    if step is None or not step.value > 0:
        was, now = (one.latency_ms.p50 if one.latency_ms else None for one in (before, row))
        return _known(words.change(was, now, "faster", "slower")), ""
    ends = speedup(step)
    note = words.interval(*ends, "x") if ends else ""
    if ends and ends[0] <= 1 <= ends[1]:
        return ALIKE, note
    return words.change(1.0, step.value, "faster", "slower"), note


def speedup(ratio: Interval) -> tuple[float, float] | None:
    """Low and high end of the speed-up from those of a ratio of times."""
    if not ratio.low or not ratio.high or min(ratio.low, ratio.high) <= 0:
        return None
    return 1 / ratio.high, 1 / ratio.low


def _score(row: LedgerRow, before: LedgerRow, score: Score) -> tuple[str, str]:
    step = row.step_drop
    if step is None:
        if row.accuracy is None or before.accuracy is None:
            return "", ""
        return score.change(score.drop(before.accuracy, row.accuracy)), ""
    note = ""
    if step.low is not None and step.high is not None:
        note = score.change_interval(step.low, step.high)
    return score.change(step.value), note


def _known(change: str) -> str:
    return "" if change == words.NOTHING else change
