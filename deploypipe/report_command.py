"""The ``report`` and ``schema`` commands: reports that lie on disk, and what they look like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from deploypipe.arguments import Json
from deploypipe.shown import show


def report(
    files: Annotated[
        list[Path], typer.Argument(metavar="REPORT.json [OTHER.json]", help="Or folders of runs.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A folder; default: that of the last report."),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE.xml", help="The verdict for CI, check by check.")
    ] = None,
    benchmark: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="As pytest-benchmark writes it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw a report anew, or compare two runs.

    One report: report.html and summary.md.  Two: comparison.html and comparison.md.
    """
    from deploypipe.report.terminal import render_terminal, two_runs_table
    from deploypipe.reporting import render_reports

    found, runs = render_reports(files, output, junit, benchmark)
    places = "\n".join(found["written"].values())
    if runs is None:
        show(found, as_json, lambda _: render_terminal({**found, "files": {}}), places)
    else:
        show(found, as_json, lambda _: two_runs_table(runs), places)


def schema(
    of_report: Annotated[bool, typer.Option("--report", help="Of report.json instead.")] = False,
    as_json: Json = True,  # noqa: ARG001
) -> None:
    """JSON Schema of the recipe, for your editor."""
    if of_report:
        from deploypipe.report.json_schema import report_schema as made
    else:
        from deploypipe.recipe import schema as made

    print(json.dumps(made(), indent=2))
