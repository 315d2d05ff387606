"""The published schema of report.json."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest

from deploypipe.report import report_schema
from deploypipe.report.json_schema import FILE
from deploypipe.report.write import finite

jsonschema = pytest.importorskip("jsonschema")


def errors(report: dict[str, Any]) -> list[str]:
    checker = jsonschema.Draft202012Validator(report_schema())
    return [
        f"{e.json_path}: {e.message}" for e in checker.iter_errors(json.loads(json.dumps(report)))
    ]


def test_the_published_file_is_what_the_code_reads() -> None:
    published = resources.files("deploypipe.report").joinpath(FILE).read_text(encoding="utf-8")
    assert json.loads(published) == report_schema(), f"write report_schema() to {FILE} again"


def test_it_is_a_schema_and_names_its_version() -> None:
    made = report_schema()
    jsonschema.Draft202012Validator.check_schema(made)
    assert made["$id"] == "urn:deploypipe:report:1"
    assert made["properties"]["version"]["const"] == 1


def test_every_report_fits(any_report: dict[str, Any]) -> None:
    assert errors(finite(any_report)) == []


def test_words_for_what_json_cannot_hold_fit(report: dict[str, Any]) -> None:
    report["accuracy"] |= {"low": float("-inf"), "drop_points": float("nan")}
    assert errors(finite(report)) == []


def test_a_section_that_is_null_fits_as_it_is_read(report: dict[str, Any]) -> None:
    assert errors(report | dict.fromkeys(("drift", "ledger", "latency", "pictures"))) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [({"version": 2}, "$.version"), ({"name": None}, "$.name"), ({"ledger": [{"bytes": "x"}]}, "$.ledger"),
     ({"verdict": {"outcome": "MAYBE"}}, "$.verdict")],
)  # fmt: skip
def test_what_is_wrong_is_named(report: dict[str, Any], change: dict[str, Any], where: str) -> None:
    assert any(told.startswith(where) for told in errors(report | change))
