"""The files of a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploypipe.core.errors import UserError
from deploypipe.report import load_report, read_report, write_report


@pytest.fixture(autouse=True)
def _no_step_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def test_three_files_are_written_and_named(any_report: dict[str, Any], tmp_path: Path) -> None:
    paths = write_report(any_report, tmp_path / "new" / "folder")
    assert sorted(paths) == ["report.html", "report.json", "summary.md"]
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == sorted(paths)


def test_the_json_is_the_report_itself(report: dict[str, Any], tmp_path: Path) -> None:
    paths = write_report(report, tmp_path)
    assert json.loads(paths["report.json"].read_text(encoding="utf-8")) == report
    assert load_report(paths["report.json"]) == read_report(report)


def test_the_step_summary_is_appended_to(
    report: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = tmp_path / "step.md"
    step.write_text("earlier\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    paths = write_report(report, tmp_path / "out")
    summary = paths["summary.md"].read_text(encoding="utf-8")
    assert step.read_text(encoding="utf-8") == f"earlier\n{summary}\n"


def test_a_report_of_another_version_writes_nothing(report: dict[str, Any], tmp_path: Path) -> None:
    report["version"] = 9
    with pytest.raises(UserError):
        write_report(report, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_folder_is_explained(report: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="cannot write"):
        write_report(report, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"
