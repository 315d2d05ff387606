"""What each step was worth."""

from __future__ import annotations

from typing import Any

from deploypipe.report.ledger import ALIKE, ledger
from deploypipe.report.schema import read_report


def test_steps_are_in_the_order_in_which_they_ran(report: dict[str, Any]) -> None:
    report["stages"].insert(1, {"step": "reference"})
    labels = [line.label for line in ledger(read_report(report))]
    assert labels == ["train", "reference", "prune", "distill", "export", "optimize", "quantize"]


def test_each_step_is_told_against_the_one_before_with_its_interval(report: dict[str, Any]) -> None:
    last = ledger(read_report(report))[-1]
    assert last.size.change == "3.5x smaller"
    assert last.latency.change == "1.49x faster" and last.latency.note == "1.44x to 1.54x"
    assert last.score.change == "−0.12 points"
    assert last.score.note == "−0.45 to +0.21 points"


def test_a_step_whose_interval_holds_none_is_not_called_faster(report: dict[str, Any]) -> None:
    export = next(line for line in ledger(read_report(report)) if line.label == "export")
    assert export.latency.change == ALIKE
    assert export.latency.note == "0.99x to 1.01x, against reference"
    assert export.size.change == "the same" and export.size.note == "against reference"


def test_an_older_report_has_changes_without_intervals(older: dict[str, Any]) -> None:
    lines = ledger(read_report(older))
    assert [line.label for line in lines][:2] == ["train", "reference"]
    last = lines[-1]
    assert last.latency.change.endswith("faster") and last.latency.note == ""
    assert "points" in last.score.change and last.score.note == ""


def test_torch_stages_have_only_their_metric(report: dict[str, Any]) -> None:
    prune = next(line for line in ledger(read_report(report)) if line.label == "prune")
    assert prune.score.value == "61.20 %"
    assert prune.size.value == prune.latency.value == "–"


def test_two_files_without_stages_are_two_lines(report: dict[str, Any]) -> None:
    report["stages"], report["history"] = [], []
    report["ledger"] = [report["ledger"][0], report["ledger"][3]]
    assert [line.label for line in ledger(read_report(report))] == ["reference", "quantize"]


def test_a_metric_that_counts_errors_changes_with_the_right_sign(report: dict[str, Any]) -> None:
    report["accuracy"] |= {"unit": "squared error", "higher_is_better": False, "scale": 1.0}
    for row, value in zip(report["ledger"], (2.0, 2.0, 2.5, 2.25), strict=True):
        row |= {"accuracy": value, "step_drop": None}
    assert ledger(read_report(report))[-1].score.change == "−0.2500 squared error"


def test_a_run_without_measurements_has_no_ledger(bare: dict[str, Any]) -> None:
    assert ledger(read_report(bare)) == []
