"""``summary.md``: the verdict, the table and the checks, for a pull request's comment."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from deploypipe.core.files import Json
from deploypipe.report.comparison import comparison, remarks
from deploypipe.report.headline import checks, headline
from deploypipe.report.ledger import Cell, ledger
from deploypipe.report.schema import Report, read_report
from deploypipe.report.scores import Score
from deploypipe.report.stages import OPEN, Lines, StageWords, command, stages
from deploypipe.report.words import counted, moment, plain

LIMIT = 60_000
"""Bytes; hosting services refuse a comment above 64 kB."""
CHECKS = 40
"""Checks that are told; the page has them all."""

_SIGNS = {"PASS": "\N{WHITE HEAVY CHECK MARK}", "FAIL": "\N{CROSS MARK}"}
_UNSURE = "\N{WHITE QUESTION MARK ORNAMENT}"


def render_markdown(report: Mapping[str, Json] | Report) -> str:
    """The summary, below 64 kB.

    Raises:
        UserError: the report is of another version or shape.
    """
    read = read_report(report)
    found = headline(read)
    parts = [
        f"## {_SIGNS.get(found.outcome, _UNSURE)} {found.outcome}: {safe(found.reason)}",
        " \N{MIDDLE DOT} ".join(
            filter(None, [code(plain(read.name, 100)), safe(moment(read.created))])
        ),
        _comparison(read),
        " ".join(safe(remark) for remark in remarks(read)),
        _checks(read),
        f"Again: {code(command(read))}" if command(read) else "",
    ]
    text = "\n\n".join(filter(None, parts)) + "\n"
    details = _steps(read) + _details(stages(read, 30_000))
    return text + details if len((text + details).encode()) <= LIMIT else text


def safe(text: str) -> str:
    """Text that Markdown and HTML leave as it is, that links nowhere and calls nobody by an @."""
    text = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_\[\]|#~!])", r"\\\1", text)
    return re.sub(r"(@|:(?=//)|www(?=\.))", "\\1\N{WORD JOINER}", text)


def code(text: str) -> str:
    """A code span around any text, fenced by more backticks than it holds."""
    runs = re.findall("`+", text)
    fence = "`" * (1 + max(map(len, runs), default=0))
    space = " " if runs else ""
    return f"{fence}{space}{text}{space}{fence}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """A table of cells that are safe already; ``align`` has an l or an r for each column."""
    rule = [{"l": ":--", "r": "--:"}[side] for side in align]
    lines = [header, rule, *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _comparison(report: Report) -> str:
    rows = [
        tuple(
            map(safe, (row.label, row.reference, row.candidate, _with_note(row.change, row.note)))
        )
        for row in comparison(report)
    ]
    return table(("", "original", "candidate", "change"), rows, "lrrl") if rows else ""


def _with_note(text: str, note: str) -> str:
    return f"{text} ({note})" if note else text


def _checks(report: Report) -> str:
    rows = [
        (
            f"{_SIGNS.get(check.outcome, _UNSURE)} {check.outcome}",
            *map(safe, (check.name, check.measured, check.interval, check.limit)),
            safe(plain(check.why, 200)),
        )
        for check in checks(report)
    ]
    header = ("outcome", "check", "measured", "interval", "limit", "why")
    left = counted(len(rows) - CHECKS, "more check")
    more = f"\n\n{left}, see the report." if len(rows) > CHECKS else ""
    return table(header, rows[:CHECKS], "llrrrl") + more if rows else ""


def _steps(report: Report) -> str:
    """The ledger, folded: what each step did to size, latency and metric."""
    rows = [
        (safe(line.label), *(_step_cell(cell) for cell in (line.size, line.latency, line.score)))
        for line in ledger(report)[:CHECKS]
    ]
    if not rows:
        return ""
    header = ("step", "size", "latency p50", safe(Score.of(report).name))
    body = table(header, rows, "lrrr")
    return f"\n<details>\n<summary>What each step gave</summary>\n\n{body}\n\n</details>\n"


def _step_cell(cell: Cell) -> str:
    return safe(_with_note(", ".join(filter(None, [cell.value, cell.change])), cell.note))


def _details(told: Sequence[StageWords]) -> str:
    if not told:
        return ""
    body = "\n\n".join(_stage(stage) for stage in told)
    return f"\n<details>\n<summary>Stage by stage</summary>\n\n{body}\n\n</details>\n"


def _stage(stage: StageWords) -> str:
    lines = [f"**{safe(stage.title)}** {safe(stage.facts)}".rstrip()]
    for name, each in (("changed", stage.changes), ("refused", stage.refusals)):
        lines += _list(name, each)
    return "\n".join(lines)


def _list(name: str, lines: Lines) -> list[str]:
    # Every "no" is told as far as it fits; of the changes the first few, the page has them all.
    shown = lines.shown[:OPEN] if name == "changed" else lines.shown
    left = lines.total - len(shown)
    told = [f"- {name}: {safe(line)}" for line in shown]
    return told + ([f"- {name}: {left} more, see the report"] if left else [])
