"""report.json, version 1."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from deploypipe.core.errors import UserError
from deploypipe.report import load_report, read_report, write_report


def test_a_report_survives_reading_and_dumping(any_report: dict[str, Any]) -> None:
    again = read_report(any_report).model_dump(mode="json", exclude_unset=True)
    assert again == any_report


def test_unknown_keys_are_kept(report: dict[str, Any]) -> None:
    report["stages"][0]["weather"] = "fine"
    assert read_report(report).model_dump()["stages"][0]["weather"] == "fine"


def test_a_section_that_is_null_was_not_measured(report: dict[str, Any]) -> None:
    sections = (
        "drift",
        "ledger",
        "kernels",
        "placement",
        "environment",
        "latency",
        "data",
        "verdict",
    )
    read = read_report(report | dict.fromkeys(sections))
    assert read.drift == {} and read.ledger == [] and read.latency is None


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_is_refused(report: dict[str, Any], version: object) -> None:
    report["version"] = version
    with pytest.raises(UserError, match="this deploypipe reads version 1"):
        read_report(report)


def test_a_value_of_the_wrong_shape_is_named_by_its_path(report: dict[str, Any]) -> None:
    report["ledger"][2]["latency_ms"]["p50"] = "quick"
    with pytest.raises(UserError, match=r"ledger\.2\.latency_ms\.p50.*'quick'"):
        read_report(report)


def test_an_outcome_may_be_written_in_lower_case(report: dict[str, Any]) -> None:
    report["verdict"]["outcome"] = "pass"
    verdict = read_report(report).verdict
    assert verdict is not None and verdict.outcome == "PASS"


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "not JSON"), ("[" * 100_000, "not JSON"), ("[1]", "expected a JSON object, got list")],
)
def test_a_file_that_is_no_report_is_named(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(UserError, match=said) as caught:
        load_report(path)
    assert str(path) in str(caught.value)


def test_bytes_that_are_no_text_are_not_json(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(UserError, match="not JSON"):
        load_report(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        load_report(tmp_path / "absent.json")


def test_infinities_and_nan_pass_through_a_file(report: dict[str, Any], tmp_path: Path) -> None:
    report["drift"] = {"sqnr_db": math.inf}
    report["accuracy"] |= {"drop_points": math.nan, "low": -math.inf}
    paths = write_report(report, tmp_path)
    text = paths["report.json"].read_text(encoding="utf-8")
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    accuracy = load_report(paths["report.json"]).accuracy
    assert accuracy is not None and accuracy.drop_points is not None
    assert math.isnan(accuracy.drop_points) and accuracy.low == -math.inf
