"""``deploypipe report``: pages, comparisons and exports of reports that lie on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from deploypipe.core.errors import UserError
from deploypipe.core.files import Json
from deploypipe.report.schema import load_report
from deploypipe.report.two_runs import TwoRuns, compare_runs
from deploypipe.report.write import JSON, write_comparison, write_exports, write_pages


def render_reports(
    files: Sequence[Path],
    out: Path | None = None,
    junit: Path | None = None,
    benchmark: Path | None = None,
) -> tuple[Json, TwoRuns | None]:
    """Write the pages of one report, or the comparison of two, and the exports of the last one.

    A file may be the folder of a run.  ``out`` is a folder, by default that of the last report.

    Returns:
        The report itself, or the comparison as plain JSON, with ``written``; and the comparison.

    Raises:
        UserError: a file is no report, or a place cannot be written to.
    """
    places = [file / JSON if file.is_dir() else file for file in files]
    if len(places) not in (1, 2):
        raise UserError(f"expected one or two reports, got {len(places)}")
    reports = [load_report(place) for place in places]
    folder = out or places[-1].parent
    runs = compare_runs(*reports) if len(reports) == 2 else None
    pages = write_pages(reports[0], folder) if runs is None else write_comparison(runs, folder)
    written = pages | write_exports(reports[-1], junit, benchmark)
    told = json.loads(places[0].read_text(encoding="utf-8")) if runs is None else runs.to_json()
    return {**told, "written": {name: str(path) for name, path in written.items()}}, runs
