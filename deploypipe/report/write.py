"""The report's files, each whole or absent."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

from deploypipe.core.files import Json, explained_os_errors, write_text
from deploypipe.report.benchmark_json import benchmark_json
from deploypipe.report.junit import render_junit
from deploypipe.report.markdown import render_markdown
from deploypipe.report.page import render_html
from deploypipe.report.schema import Report, read_report
from deploypipe.report.two_runs import TwoRuns
from deploypipe.report.two_runs_page import render_two_runs_html, render_two_runs_markdown

JSON, HTML, SUMMARY, COMPARISON = "report.json", "report.html", "summary.md", "comparison.html"


def write_report(report: Mapping[str, Json], folder: Path) -> dict[str, Path]:
    """Write ``report.json``, ``report.html`` and ``summary.md``; their paths by name.

    Where ``$GITHUB_STEP_SUMMARY`` names a file, the summary is appended to it as well.

    Raises:
        UserError: the report is of another version or shape, or the folder cannot be written.
    """
    texts = {JSON: _json(report), **_pages(read_report(report))}
    return _write(texts, folder, texts[SUMMARY])


def write_pages(report: Report, folder: Path) -> dict[str, Path]:
    """Write ``report.html`` and ``summary.md`` of a report that is there already; as `write_report`.

    Raises:
        UserError: the folder cannot be written.
    """
    pages = _pages(report)
    return _write(pages, folder, pages[SUMMARY])


def write_comparison(runs: TwoRuns, folder: Path) -> dict[str, Path]:
    """Write ``comparison.html`` and ``comparison.md``; their paths by name.

    Raises:
        UserError: the folder cannot be written.
    """
    texts = {
        COMPARISON: render_two_runs_html(runs),
        "comparison.md": render_two_runs_markdown(runs),
    }
    return _write(texts, folder, texts["comparison.md"])


def write_exports(
    report: Report, junit: Path | None = None, benchmark: Path | None = None
) -> dict[str, Path]:
    """Write the verdict as JUnit XML and the timed calls as pytest-benchmark's JSON, where asked.

    Raises:
        UserError: a file cannot be written.
    """
    written = {}
    if junit is not None:
        write_text(junit, render_junit(report))
        written["junit"] = junit
    if benchmark is not None:
        write_text(benchmark, _json(benchmark_json(report)))
        written["benchmark"] = benchmark
    return written


def _json(value: Json) -> str:
    return json.dumps(finite(value), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _pages(report: Report) -> dict[str, str]:
    return {HTML: render_html(report), SUMMARY: render_markdown(report)}


def _write(texts: Mapping[str, str], folder: Path, summary: str) -> dict[str, Path]:
    for name, text in texts.items():
        write_text(Path(folder) / name, text)
    append_step_summary(summary)
    return {name: Path(folder) / name for name in texts}


def finite(value: Json) -> Json:
    """The same data with NaN and infinities as strings, which JSON can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value


def append_step_summary(summary: str) -> None:
    """Append Markdown to the file that ``$GITHUB_STEP_SUMMARY`` names, if it names one.

    Raises:
        UserError: that file cannot be written.
    """
    step = os.environ.get("GITHUB_STEP_SUMMARY")
    if not step:
        return
    with explained_os_errors(Path(step)), open(step, "a", encoding="utf-8") as file:
        file.write(f"{summary}\n")
