"""The end of a run in the terminal: verdict, table, checks, where everything lies."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from deploypipe.core.files import Json
from deploypipe.report.comparison import comparison
from deploypipe.report.headline import checks, headline
from deploypipe.report.schema import Report, read_report
from deploypipe.report.two_runs import TwoRuns
from deploypipe.report.words import plain

_STYLES = {"PASS": "bold green", "FAIL": "bold red", "UNDECIDED": "bold yellow"}


def render_terminal(report: Mapping[str, Json] | Report) -> RenderableType:
    """Something that a rich console prints.

    All text goes in as :class:`~rich.text.Text`, because a name may hold rich's own markup.

    Raises:
        UserError: the report is of another version or shape.
    """
    read = read_report(report)
    parts = [_verdict(read), _comparison(read), _checks(read), _files(read)]
    return Group(*[part for part in parts if part is not None])


def _verdict(report: Report) -> Text:
    found = headline(report)
    line = Text(f"{found.mark} {found.outcome}", style=_STYLES.get(found.outcome, "bold"))
    line.append(f"  {found.reason}", style="not bold default")
    return line


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        right = column in ("original", "candidate", "measured")
        table.add_column(column, justify="right" if right else "left")
    return table


def _comparison(report: Report) -> RenderableType | None:
    rows = comparison(report)
    table = _table("", "original", "candidate", "change")
    for row in rows:
        note = f" ({row.note})" if row.note else ""
        table.add_row(*map(Text, (row.label, row.reference, row.candidate, row.change + note)))
    return _spaced(table) if rows else None


def _checks(report: Report) -> RenderableType | None:
    rows = checks(report)
    table = _table("check", "", "measured", "interval", "limit", "why")
    for check in rows:
        outcome = Text(f"{check.mark} {check.outcome}", style=_STYLES[check.outcome])
        rest = (check.measured, check.interval, check.limit, check.why)
        table.add_row(Text(check.name), outcome, *map(Text, rest))
    return _spaced(table) if rows else None


def _files(report: Report) -> RenderableType | None:
    table = _table("written", "")
    for name, path in report.files.items():
        table.add_row(Text(plain(name, 40)), Text(plain(path)))
    return _spaced(table) if report.files else None


def _spaced(table: Table) -> RenderableType:
    return Padding(table, (1, 0, 0, 0))


def two_runs_table(runs: TwoRuns) -> RenderableType:
    """Both verdicts, what speaks against comparing, and the changes."""
    lines = [Text(runs.verdict, style=_STYLES.get(runs.second.outcome, "bold"))]
    lines += [Text(f"- {caution}") for caution in runs.cautions]
    table = _table("", "first", "second", "change")
    for row in runs.rows:
        note = f" ({row.note})" if row.note else ""
        table.add_row(*map(Text, (row.label, row.first, row.second, row.change + note)))
    other = _table("environment", "first", "second")
    for told in runs.environment:
        other.add_row(*map(Text, told))
    parts = [*lines, _spaced(table), *([_spaced(other)] if runs.environment else [])]
    return Group(*parts)
