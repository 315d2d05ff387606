"""The report's files, each whole or absent."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

from deploypipe.core.files import Json, explained_os_errors, write_text
from deploypipe.report.markdown import render_markdown
from deploypipe.report.page import render_html
from deploypipe.report.schema import read_report

JSON, HTML, SUMMARY = "report.json", "report.html", "summary.md"


def write_report(report: Mapping[str, Json], folder: Path) -> dict[str, Path]:
    """Write ``report.json``, ``report.html`` and ``summary.md``; their paths by name.

    Where ``$GITHUB_STEP_SUMMARY`` names a file, the summary is appended to it as well.

    Raises:
        UserError: the report is of another version or shape, or the folder cannot be written.
    """
    read = read_report(report)
    summary = render_markdown(read)
    texts = {
        JSON: json.dumps(finite(report), indent=2, allow_nan=False, ensure_ascii=False) + "\n",
        HTML: render_html(read),
        SUMMARY: summary,
    }
    for name, text in texts.items():
        write_text(Path(folder) / name, text)
    _append_step_summary(summary)
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


def _append_step_summary(summary: str) -> None:
    step = os.environ.get("GITHUB_STEP_SUMMARY")
    if not step:
        return
    with explained_os_errors(Path(step)), open(step, "a", encoding="utf-8") as file:
        file.write(f"{summary}\n")
