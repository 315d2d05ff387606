"""A result on standard output: one JSON document, or what a person reads."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any


def show(
    found: Any,
    as_json: bool,
    table: Callable[[Any], Any],
    last: str = "",
    summary: Callable[[Any], str] | None = None,
) -> None:
    """Print ``found`` as JSON, or what ``table`` makes of it and ``last``.

    ``summary`` is its Markdown, which goes to where ``$GITHUB_STEP_SUMMARY`` points.
    """
    if summary is not None and os.environ.get("GITHUB_STEP_SUMMARY"):
        from deploypipe.report.write import append_step_summary

        append_step_summary(summary(found))
    if as_json:
        from deploypipe.report.write import finite

        print(json.dumps(finite(found), allow_nan=False))
        return
    from rich.console import Console

    console = Console(soft_wrap=False)
    console.print(table(found))
    if last:
        console.print(last, markup=False, highlight=False, soft_wrap=True)  # paths stay whole
