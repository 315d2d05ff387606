"""One report out of what the stages noted."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploypipe.core.artifact import Artifact, Kind
from deploypipe.report.collect import SECTIONS, Told, collect
from deploypipe.report.schema import read_report


@pytest.fixture
def told(tmp_path):
    def make(step, made="2026-01-01T00:00:00+00:00", kind=Kind.ONNX, **notes):
        file = tmp_path / f"{step}.onnx"
        Path(file).write_text(step)
        return Told(step, Artifact.of(kind, file, step, None, notes), 1.5, made, {"a": 1})

    return make


def report(*stages):
    facts = {"name": "n", "recipe": {}, "data": {}, "target": {}, "command": "c", "files": {}}
    return collect(stages, **facts)


def test_every_stage_is_told_with_its_own_notes(told):
    found = report(told("optimize", changes=["c"], refusals=["r"], spared=3))
    (stage,) = found["stages"]
    assert stage["step"] == "optimize"
    assert stage["changes"] == ["c"]
    assert stage["refusals"] == ["r"]
    assert stage["notes"] == {"spared": 3}
    assert stage["options"] == {"a": 1}
    assert stage["bytes"] == len("optimize")
    assert read_report(found).stages[0].seconds == 1.5


def test_the_history_holds_accuracies_that_are_numbers(told):
    validate = told("validate", accuracy={"drop": 1}, verdict={"outcome": "PASS"})
    found = report(told("train", accuracy=0.5), told("prune", accuracy=None), validate)
    assert found["history"] == [{"label": "train", "accuracy": 0.5}]


def test_the_last_verdict_brings_the_sections(told):
    first = told("validate", verdict={"outcome": "FAIL"}, drift={"a": 1})
    last = told("validate-2", verdict={"outcome": "PASS"}, drift={"a": 2})
    found = report(first, told("quantize", drift={"a": 9}), last)
    assert found["verdict"] == {"outcome": "PASS"}
    assert found["drift"] == {"a": 2}


def test_without_a_verdict_there_are_no_sections(told):
    found = report(told("export"))
    assert not set(SECTIONS) & set(found)
    assert read_report(found).verdict is None


def test_it_was_created_when_the_last_stage_was_made(told):
    stages = told("a", "2026-01-02T00:00:00+00:00"), told("b", "2026-01-01T00:00:00+00:00")
    assert report(*stages)["created"] == "2026-01-02T00:00:00+00:00"
    assert report()["created"] == ""
