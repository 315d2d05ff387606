"""What the terminal shows at the end of a run."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from deploypipe.report import render_terminal


def _shown(report: dict[str, Any], width: int = 160) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=False).print(render_terminal(report))
    return stream.getvalue()


def test_the_verdict_comes_first(failed: dict[str, Any]) -> None:
    assert _shown(failed).startswith("✕ FAIL  speedup: 3.12x, limit at least 4.00x; ")


def test_table_checks_and_files_follow(report: dict[str, Any]) -> None:
    text = _shown(report)
    places = [text.index(word) for word in ("PASS", "size on disk", "accuracy drop", "bundle.tar")]
    assert places == sorted(places)
    assert "95% one-sided" in _shown(report, 300)
    assert "11.4x smaller" in text and "at most 0.50 points" in text


def test_markup_and_escapes_in_names_are_only_text(hostile: dict[str, Any]) -> None:
    text = _shown(hostile)
    assert "[bold red]" in text and "\x1b" not in text


def test_a_narrow_terminal_still_works(any_report: dict[str, Any]) -> None:
    assert all(len(line) <= 60 for line in _shown(any_report, 60).splitlines())


def test_a_run_that_measured_nothing_is_one_line(bare: dict[str, Any]) -> None:
    assert len(_shown(bare).splitlines()) == 1
