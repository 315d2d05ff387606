"""``deploypipe report`` and ``deploypipe schema --report``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

OLDER = Path(__file__).parent / "report" / "older" / "report-1.json"


@pytest.fixture(autouse=True)
def _no_step_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """The folder of a run with nothing but its report."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "report.json").write_text(OLDER.read_text())
    return folder


def test_one_report_is_drawn_beside_itself(given: Path, call: Any) -> None:
    said = call("report", given / "report.json")
    assert said.code == 0 and "PASS" in said.out and "report.html" in said.out
    assert {file.name for file in given.iterdir()} == {"report.json", "report.html", "summary.md"}
    assert (given / "report.json").read_text() == OLDER.read_text()


def test_the_folder_of_a_run_stands_for_its_report(given: Path, tmp_path: Path, call: Any) -> None:
    out = tmp_path / "pages"
    assert call("report", given, "-o", out).code == 0
    assert {file.name for file in out.iterdir()} == {"report.html", "summary.md"}
    assert {file.name for file in given.iterdir()} == {"report.json"}


def test_two_reports_are_compared(given: Path, tmp_path: Path, call: Any) -> None:
    other = json.loads(OLDER.read_text())
    other["candidate"]["bytes"] //= 2
    second = tmp_path / "second.json"
    second.write_text(json.dumps(other))
    said = call("report", given, second, "-o", tmp_path / "both")
    assert said.code == 0 and "2.0x smaller" in said.out
    assert {f.name for f in (tmp_path / "both").iterdir()} == {"comparison.html", "comparison.md"}


def test_json_is_one_document_that_names_what_was_written(given: Path, call: Any) -> None:
    said = call("report", given, "--json")
    assert said.json["name"] == json.loads(OLDER.read_text())["name"]
    assert Path(said.json["written"]["report.html"]).is_file()
    said = call("report", given, given, "--json")
    assert said.json["rows"][0]["label"] == "size"
    assert Path(said.json["written"]["comparison.html"]).is_file()


def test_exports_are_written_where_asked(given: Path, tmp_path: Path, call: Any) -> None:
    junit, benchmark = tmp_path / "ci" / "junit.xml", tmp_path / "benchmark.json"
    assert call("report", given, "--junit", junit, "--benchmark", benchmark).code == 0
    assert ElementTree.parse(junit).getroot().tag == "testsuites"
    assert len(json.loads(benchmark.read_text())["benchmarks"]) == 2


def test_the_summary_goes_where_the_step_wants_it(
    given: Path, tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = tmp_path / "step.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    call("report", given)
    assert step.read_text() == (given / "summary.md").read_text() + "\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [(["absent.json"], "absent.json"), (["a", "b", "c"], "one or two reports, got 3")],
)
def test_what_is_no_report_is_a_mistake_of_the_user(words: list[str], said: str, call: Any) -> None:
    found = call("report", *words)
    assert found.code == 2 and said in found.err and "Traceback" not in found.err


def test_the_schema_of_a_report_is_printed(call: Any) -> None:
    assert call("schema", "--report").json["$id"] == "urn:deploypipe:report:1"


def test_bench_tells_the_step_its_answer(
    tiny: Any, tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = tmp_path / "step.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    assert call("bench", tiny.model, "--seconds", 0.1, "--threads", 1).code == 0
    assert "model.onnx" in step.read_text() and "p50" in step.read_text()
