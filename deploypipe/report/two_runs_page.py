"""``comparison.html`` and ``comparison.md``: two runs side by side."""

from __future__ import annotations

from deploypipe.report import words
from deploypipe.report.drawing import draw
from deploypipe.report.markdown import LIMIT, safe, table
from deploypipe.report.two_runs import Change, TwoRuns

SHOWN = 40
"""Rows of a table of differences that are shown in Markdown."""


def render_two_runs_html(runs: TwoRuns) -> str:
    """One self-contained page."""
    outcome = runs.second.outcome
    return draw(
        "two_runs.html.j2", runs=runs, words=words, outcome=outcome, sections=_sections(runs)
    )


def _sections(runs: TwoRuns) -> list[tuple[str, str]]:
    told = {
        "changes": ("Changes", runs.rows),
        "checks": ("Checks", runs.checks),
        "steps": ("Steps", runs.steps),
        "environment": ("Environment", True),
        "recipe": ("Recipe", runs.recipe),
    }
    return [(key, title) for key, (title, shown) in told.items() if shown]


def render_two_runs_markdown(runs: TwoRuns) -> str:
    """The same for a pull request's comment, below 64 kB."""
    names = [_title(runs, side) for side in ("first", "second")]
    parts = [
        f"## {safe(runs.verdict)}: {safe(runs.gist)}" if runs.gist else f"## {safe(runs.verdict)}",
        f"First: {safe(names[0])}. Second: {safe(names[1])}.",
        "\n".join(f"- {safe(each)}" for each in runs.cautions),
        table(("", "first", "second", "change"), [_cells(row) for row in runs.rows], "lrrl"),
        _titled("Checks", [_cells(row) for row in runs.checks], ("", "first", "second", "outcome")),
        _titled("Environment", _safe(runs.environment), ("", "first", "second")),
        _titled("Recipe", _safe(runs.recipe), ("", "first", "second")),
    ]
    text = "\n\n".join(filter(None, parts)) + "\n"
    return text if len(text.encode()) <= LIMIT else "\n\n".join(filter(None, parts[:4])) + "\n"


def _title(runs: TwoRuns, side: str) -> str:
    one = runs.first if side == "first" else runs.second
    return " ".join(filter(None, [one.name, f"({one.created})" if one.created else ""]))


def _cells(row: Change) -> tuple[str, ...]:
    change = f"{row.change} ({row.note})" if row.note else row.change
    return tuple(map(safe, (row.label, row.first, row.second, change)))


def _safe(rows: tuple[tuple[str, str, str], ...]) -> list[tuple[str, ...]]:
    return [tuple(map(safe, row)) for row in rows[:SHOWN]]


def _titled(title: str, rows: list[tuple[str, ...]], header: tuple[str, ...]) -> str:
    return f"**{title}**\n\n{table(header, rows, 'l' * len(header))}" if rows else ""
