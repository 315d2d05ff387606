"""Two runs side by side."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from deploypipe.report import compare_runs, read_report
from deploypipe.report.two_runs import Change, TwoRuns
from deploypipe.report.two_runs_page import render_two_runs_html, render_two_runs_markdown


@pytest.fixture
def later(report: dict[str, Any]) -> dict[str, Any]:
    """The same run again, smaller and faster."""
    again = copy.deepcopy(report)
    again["created"] = "2026-03-15T15:09:26+00:00"
    again["candidate"] |= {"bytes": 50_500, "latency_ms": {"p50": 0.5, "p90": 0.6, "n": 120}}
    again["latency"] |= {"ratio": 0.214, "low": 0.208, "high": 0.220}
    again["accuracy"]["candidate"] = 0.9155
    return again


def compared(first: dict[str, Any], second: dict[str, Any]) -> TwoRuns:
    return compare_runs(read_report(first), read_report(second))


def row(runs: TwoRuns, label: str) -> Change:
    return next(each for each in runs.rows if each.label == label)


def test_what_changed_is_told_from_the_first_to_the_second(
    report: dict[str, Any], later: dict[str, Any]
) -> None:
    runs = compared(report, later)
    assert row(runs, "size").change == "2.0x smaller"
    assert row(runs, "latency p50").change == "1.48x faster"
    assert row(runs, "accuracy").change == "−0.05 points"
    assert runs.verdict == "PASS in both"
    assert runs.gist.startswith("size 2.0x smaller; speed-up 1.50x faster")
    assert not runs.cautions and not runs.environment


def test_speed_ups_are_compared_with_the_interval_of_two_independent_runs(
    report: dict[str, Any], later: dict[str, Any]
) -> None:
    speed = row(compared(report, later), "speed-up")
    low, high = map(float, re.findall(r"[\d.]+", speed.note))
    assert low < 0.321 / 0.214 < high
    half = high / 1.5 - 1
    assert half > (0.331 - 0.311) / 2 / 0.321 and half > (0.220 - 0.208) / 2 / 0.214


def test_the_same_run_twice_is_not_told_apart(report: dict[str, Any]) -> None:
    runs = compared(report, copy.deepcopy(report))
    assert row(runs, "speed-up").change == "not told apart"
    assert row(runs, "size").change == "the same"


def test_on_another_machine_no_time_is_compared(
    report: dict[str, Any], later: dict[str, Any]
) -> None:
    later["environment"]["cpu"] = "Other 2.0 GHz"
    later["environment"]["packages"]["onnxruntime"] = "1.32.0"
    runs = compared(report, later)
    assert ("cpu", "Example 3.1 GHz", "Other 2.0 GHz") in runs.environment
    assert ("packages.onnxruntime", "1.31.1", "1.32.0") in runs.environment
    for label in ("speed-up", "latency p50"):
        assert row(runs, label).change == "–" and row(runs, label).note == "other environment"
    assert row(runs, "size").change == "2.0x smaller"
    assert any("environments differ" in caution for caution in runs.cautions)


def test_of_another_original_no_speed_up_is_compared(
    report: dict[str, Any], later: dict[str, Any]
) -> None:
    later["reference"]["digest"] = "77" * 32
    assert row(compared(report, later), "speed-up").note == "other originals"


def test_by_other_metrics_no_accuracy_is_compared(
    report: dict[str, Any], later: dict[str, Any]
) -> None:
    later["accuracy"]["metric"] = "agreement"
    runs = compared(report, later)
    told = row(runs, f"{report['accuracy']['metric']} / agreement")
    assert (told.change, told.note) == ("–", "other metrics")
    assert told.first == row(compared(report, report), report["accuracy"]["metric"]).first


def test_on_other_samples_no_accuracy_is_compared(
    report: dict[str, Any], later: dict[str, Any]
) -> None:
    later["data"]["splits"]["validation"]["digest"] = "99" * 32
    runs = compared(report, later)
    assert row(runs, "accuracy").change == "–"
    assert any("validation samples" in caution for caution in runs.cautions)


def test_a_verdict_that_changed_stands_first(report: dict[str, Any]) -> None:
    failed = copy.deepcopy(report)
    failed["verdict"]["outcome"] = failed["verdict"]["checks"][3]["outcome"] = "FAIL"
    runs = compared(report, failed)
    assert runs.verdict == "PASS → FAIL"
    assert [check.label for check in runs.checks if check.change == "changed"] == ["speedup"]
    assert render_two_runs_markdown(runs).startswith("## PASS → FAIL")
    assert "PASS → FAIL" in render_two_runs_html(runs)


def test_recipes_that_differ_are_told_option_by_option(report: dict[str, Any]) -> None:
    other = copy.deepcopy(report)
    other["recipe"]["model"] = "models/other.py:net"
    runs = compared(report, other)
    assert ("model", "models/resnet20.py:resnet20", "models/other.py:net") in runs.recipe


def test_any_two_reports_compare(any_report: dict[str, Any], report: dict[str, Any]) -> None:
    for pair in ((any_report, report), (report, any_report), (any_report, any_report)):
        runs = compared(*pair)
        html, text = render_two_runs_html(runs), render_two_runs_markdown(runs)
        assert len(html.encode()) < 300_000 and len(text.encode()) < 60_000
        assert "<script>" not in html
        json.dumps(runs.to_json())


def test_strangers_text_stays_text_in_markdown(
    hostile: dict[str, Any], report: dict[str, Any]
) -> None:
    text = render_two_runs_markdown(compared(report, hostile))
    assert "<script>" not in text and "@all" not in text and "\x1b" not in text


def test_no_two_environments_are_taken_for_the_same_when_nothing_was_recorded(
    bare: dict[str, Any],
) -> None:
    runs = compared(bare, copy.deepcopy(bare))
    assert runs.rows == () and runs.verdict == "NO VERDICT in both"
