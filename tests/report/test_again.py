"""The commands that give the numbers again."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from deploypipe.report.again import again
from deploypipe.report.schema import read_report


@pytest.fixture
def filed(report: dict[str, Any]) -> dict[str, Any]:
    """A report whose stages tell their files, from a recipe as it is."""
    report["command"] = "deploypipe run 'my models/net.yaml' -o out/net"
    report["stages"].insert(3, {"step": "reference", "digest": report["reference"]["digest"]})
    report["stages"][-1]["digest"] = report["candidate"]["digest"]
    for number, stage in enumerate(report["stages"]):
        stage["file"] = f"stages/{number:02d}-{stage['step']}/artifact/model.onnx"
    report["recipe"]["budget"] = {"accuracy_drop": 1.0, "speedup": None}
    return report


def test_every_kind_of_number_has_its_command(filed: dict[str, Any]) -> None:
    told = {one.what: one.command for one in again(read_report(filed))}
    assert told["everything"] == "deploypipe run 'my models/net.yaml' -o out/net"
    assert told["this page"] == "deploypipe report out/net/report.json"
    reference = "out/net/stages/03-reference/artifact/model.onnx"
    candidate = "out/net/stages/06-quantize/artifact/model.onnx"
    data = ["--data", "my models/net.yaml"]
    assert shlex.split(told["accuracy, drift and verdict"]) == [
        "deploypipe", "validate", reference, candidate, *data, "--budget", "accuracy_drop=1.0",
    ]  # fmt: skip
    assert shlex.split(told["latency alone"])[:4] == ["deploypipe", "bench", candidate, reference]
    assert told["layers"].endswith("--layers")
    assert told["what fused in 8 bits"] == f"deploypipe doctor --model {candidate}"
    channels = "out/net/stages/05-optimize/artifact/channels/1"
    assert told["removed channels (1)"].split()[1:3] == [
        "verify-channels",
        f"{channels}/before.onnx",
    ]


def test_what_the_recipe_chose_is_chosen_again(filed: dict[str, Any]) -> None:
    filed["target"] = {"cuda": {"threads": 4}}
    filed["stages"].append(
        {"step": "validate", "digest": filed["candidate"]["digest"],
         "options": {"metric": {"macro-f1": {}}, "samples": 100, "batch": 8, "seconds": 12.5,
                     "rounds": 7}}
    )  # fmt: skip
    told = {one.what: one.command for one in again(read_report(filed))}
    where = "--target cuda --threads 4"
    how = f"--data 'my models/net.yaml' {where} --metric macro-f1 --samples 100"
    timed = "--batch 8 --seconds 12.5"
    assert told["accuracy, drift and verdict"].endswith(f"{how} {timed} --budget accuracy_drop=1.0")
    assert told["latency alone"].endswith(f"{where} {timed}")
    assert told["layers"].endswith(f"{how} --layers")


@pytest.mark.parametrize(
    ("metric", "word"),
    [
        ({"mean-average-precision": {"iou": 0.75}}, "mean-average-precision:iou=0.75"),
        ({"python": {"function": "own.py:f", "whole": True}}, "python:own.py:f,whole=true"),
    ],
)
def test_a_metric_with_options_is_one_word(filed: dict[str, Any], metric: Any, word: str) -> None:
    from deploypipe.validate import METRICS

    filed["stages"].append({"step": "validate", "options": {"metric": metric}})
    told = {one.what: one.command for one in again(read_report(filed))}
    assert f"--metric {word}" in told["accuracy, drift and verdict"]
    ((name, given),) = metric.items()
    assert METRICS.split(word) == (name, given)


@pytest.mark.parametrize(
    "options", [{"output": "logits"}, {"metric": {"python": {"function": "a,b.py:judge"}}}]
)
def test_what_has_no_word_on_the_command_line_is_not_told_wrongly(
    filed: dict[str, Any], options: dict[str, Any]
) -> None:
    filed["stages"].append({"step": "validate", "options": options})
    told = [one.what for one in again(read_report(filed))]
    assert "latency alone" in told
    assert "accuracy, drift and verdict" not in told
    filed["target"] = {"cuda": {"device": 1}}
    assert "latency alone" not in [one.what for one in again(read_report(filed))]


def test_changes_on_the_command_line_leave_only_what_holds_with_them(
    filed: dict[str, Any],
) -> None:
    filed["command"] += " --set data.split.validation=9"
    told = [one.what for one in again(read_report(filed))]
    assert told == ["everything", "this page", "removed channels (1)"]


def test_an_older_report_has_only_its_run(older: dict[str, Any]) -> None:
    assert [one.what for one in again(read_report(older))] == ["everything"]


@pytest.mark.parametrize("command", [None, "", "unbalanced '", ["deploypipe"], "make demo"])
def test_another_command_is_told_as_it_is(filed: dict[str, Any], command: Any) -> None:
    filed["command"] = command
    assert len(again(read_report(filed))) == bool(command)
