"""summary.md: verdict first, safe in a comment, never too long."""

from __future__ import annotations

import re
from typing import Any

import pytest

from deploypipe.report import render_markdown
from deploypipe.report.markdown import LIMIT, code, safe


@pytest.mark.parametrize("kind", ["report", "failed", "undecided"])
def test_the_verdict_is_the_first_line(kind: str, request: pytest.FixtureRequest) -> None:
    report = request.getfixturevalue(kind)
    first = render_markdown(report).splitlines()[0]
    assert re.match(rf"## \S+ {report['verdict']['outcome']}: \S", first)


def test_the_table_and_every_check_are_there(report: dict[str, Any]) -> None:
    text = render_markdown(report)
    assert "| size on disk | 1.15 MB | 101 kB | 11.4x smaller |" in text
    assert "| latency p50 | 2.31 ms | 0.742 ms | 3.1x faster (3.02x to 3.22x) |" in text
    for check in report["verdict"]["checks"]:
        assert safe(check["why"]) in text


def test_what_each_step_gave_is_folded_below(report: dict[str, Any]) -> None:
    text = render_markdown(report)
    last = "| quantize | 101 kB, 3.5x smaller | 0.742 ms, 1.49x faster (1.44x to 1.54x) |"
    assert last in text and text.index("<details>") < text.index(last)


def test_the_confidence_of_the_accuracy_is_one_sided(report: dict[str, Any]) -> None:
    text = render_markdown(report)
    assert "at each end at 95 % one-sided confidence" in text
    assert "95 % confidence" not in text


def test_refusals_are_told_and_long_changes_are_counted(report: dict[str, Any]) -> None:
    text = render_markdown(report)
    assert "- refused: fc: kept in float, int8 loses 0.4 points here" in text
    assert "- changed: 12 more, see the report" in text


def test_all_rows_of_a_table_have_as_many_cells(any_report: dict[str, Any]) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", render_markdown(any_report), flags=re.MULTILINE)
    for table in tables:
        cells = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(cells) == 1, table


def test_strangers_text_stays_text(hostile: dict[str, Any]) -> None:
    text = re.sub(r"(`+) .*? \1(?!`)", "", render_markdown(hostile))
    assert "<script>" not in text and "\x1b" not in text
    assert "@all" not in text


def test_the_unit_of_a_strangers_metric_is_text_as_well(report: dict[str, Any]) -> None:
    report["accuracy"]["unit"] = "<img src=a>|"
    row = next(line for line in render_markdown(report).splitlines() if line.startswith("| accur"))
    assert "<" not in row and len(re.findall(r"(?<!\\)\|", row)) == 5


def test_a_large_run_fits_a_comment(report: dict[str, Any]) -> None:
    for stage in report["stages"]:
        lines = [f"*fused* {i} " + "\U0001f600" * 300 for i in range(3_000)]
        stage["changes"], stage["refusals"] = lines, lines
    report["verdict"]["checks"] *= 100
    for check in report["verdict"]["checks"]:
        check |= {"name": "\U0001f600" * 300, "why": "\U0001f600" * 3_000}
    text = render_markdown(report)
    assert len(text.encode()) <= LIMIT
    assert text.startswith("## ") and "| outcome | check |" in text


def test_a_run_that_measured_nothing_still_has_a_summary(bare: dict[str, Any]) -> None:
    assert "NO VERDICT" in render_markdown(bare)


def test_plain_words_are_left_alone() -> None:
    assert safe("fc: kept in float, 0.4 points (of 3)") == "fc: kept in float, 0.4 points (of 3)"


def test_markdown_links_and_mentions_are_disarmed() -> None:
    told = safe("[x](http://a.example) @all #1 www.a.example")
    assert "](" not in told.replace("\\](", "") and "http://" not in told
    assert "@all" not in told and "www.a" not in told


def test_a_code_span_outnumbers_the_backticks_in_it() -> None:
    assert code("a") == "`a`"
    assert code("a``b") == "``` a``b ```"
