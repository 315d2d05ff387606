"""The verbs that time models: bench, and validate where a model crashes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploypipe.core.errors import UserError
from deploypipe.verbs import (
    Settings,
    bench_models,
    validate_models,
)

BARE = Settings(target={"cpu": {"threads": 1}})


def test_bench_of_one_file_is_its_latency(tiny, given):
    found = bench_models([tiny.model], given, rounds=3, seconds=0.1)
    assert found["latency_ms"]["p50"] > 0
    assert found["files"] == [str(tiny.model)]
    assert "answer" not in found
    assert found["start"]["open_ms"] > 0
    assert found["start"]["n"] == 3


def test_bench_of_two_files_is_an_answer(tiny, given):
    found = bench_models([tiny.model, tiny.model], BARE, rounds=3, seconds=0.1, margin=100)
    assert found["answer"] in ("not slower", "undecided")
    assert found["margin"] == 100
    assert found["rounds"] >= 3
    json.dumps(found)


def test_bench_names_a_missing_file(tiny):
    with pytest.raises(UserError, match="none.onnx: no such model file"):
        bench_models([tiny.folder / "none.onnx"], BARE)


def test_a_candidate_that_crashes_leaves_a_verdict_that_says_so(tiny, given, monkeypatch):
    from deploypipe.report import render_terminal
    from deploypipe.stages import validate
    from deploypipe.validate.workers import Crash

    crash = Crash("candidate", "was killed by SIGSEGV", "")
    monkeypatch.setattr(validate, "first_look", lambda *_: crash)
    found = validate_models(tiny.model, tiny.model, given, {}, {"rounds": 3, "seconds": 5})
    (check,) = found["verdict"]["checks"]
    assert (found["verdict"]["outcome"], check["name"]) == ("FAIL", "answers")
    assert "the process of the candidate was killed by SIGSEGV" in check["why"]
    render_terminal({"version": 1, "name": "crashed", **found})


@pytest.mark.parametrize(("label", "outcome"), [("candidate", "FAIL"), ("reference", "UNDECIDED")])
def test_a_crash_under_timing_is_judged_and_the_rest_stays(
    tiny, given, monkeypatch, label, outcome
):
    from deploypipe.report import render_terminal
    from deploypipe.stages import validate
    from deploypipe.validate.workers import Crash

    def crash(*_, **__):
        raise Crash(label, "was killed by SIGKILL", "")

    monkeypatch.setattr(validate, "compare_file_latency", crash)
    found = validate_models(
        tiny.model, tiny.model, given, {"speedup": 1.5}, {"rounds": 3, "seconds": 1}
    )
    checks = {check["name"]: check for check in found["verdict"]["checks"]}
    assert found["verdict"]["outcome"] == outcome
    assert checks["not slower"]["outcome"] == checks["speedup"]["outcome"] == outcome
    assert f"the process of the {label} was killed by SIGKILL" in checks["speedup"]["why"]
    assert checks["finite outputs"]["outcome"] == "PASS"
    assert found["accuracy"]["drop_points"] == 0
    assert found["drift"]["top1_agreement"] == 1
    assert "latency" not in found
    render_terminal({"version": 1, "name": "crashed", **found})


BUILDS = """
import os, time

def build():
    return lambda feed: time.sleep(0.0005)

def crash():
    return lambda feed: os.abort()
"""


@pytest.mark.parametrize(
    ("names", "answer"), [(("crash", "build"), "crashed"), (("build", "crash"), "undecided")]
)
def test_bench_tells_who_crashed(tmp_path, names, answer):
    (tmp_path / "made.py").write_text(BUILDS)
    files = [Path(f"{tmp_path / 'made.py'}:{name}") for name in names]
    found = bench_models(files, BARE, rounds=3, seconds=4)
    assert found["answer"] == answer
    assert "SIGABRT" in found["why"]


def test_bench_times_one_function(tmp_path):
    (tmp_path / "made.py").write_text(BUILDS)
    found = bench_models([Path(f"{tmp_path / 'made.py'}:build")], BARE, rounds=3, seconds=0.1)
    assert found["latency_ms"]["p50"] >= 0.5


def test_bench_of_two_tells_its_looks(tiny):
    found = bench_models([tiny.model, tiny.model], BARE, rounds=3, seconds=4, margin=100)
    assert found["fresh"] == "process"
    assert found["decision"]["looks"][0]["processes"] == 3
    assert found["looks"]["counts"] == [3, 6, 12]
    assert found["candidate_start"]["n"] >= 1
