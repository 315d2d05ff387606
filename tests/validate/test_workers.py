"""Fresh processes on real models: what comes back, and what of a process that does not."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from deploypipe.core.errors import EnvironmentLacks, UserError
from deploypipe.runtime import TARGETS
from deploypipe.validate.experiment import Plan
from deploypipe.validate.file_experiment import experiment_on
from deploypipe.validate.files import compare_file_latency
from deploypipe.validate.first_look import crash_check, first_look
from deploypipe.validate.fresh import Fresh, fresh_target
from deploypipe.validate.judge_latency import speedup_check
from deploypipe.validate.looks import Looks
from deploypipe.validate.workers import Crash, Workers

SHORT = Plan(Looks((2,)), seconds=4.0, blocks=2)
"""Fresh processes, as few as there can be."""

CODE = """
import os, signal, time

def steady():
    return lambda: time.sleep(0.0005)

def idle():
    return lambda: None

def slow():
    return lambda: time.sleep(0.02)

def aborts():
    def run(feed):
        run.calls = getattr(run, "calls", 0) + 1
        if run.calls > 5:
            os.kill(os.getpid(), signal.SIGSEGV)
    return run

def aborts_at_once():
    return lambda feed: os.abort()

def raises():
    def run():
        raise RuntimeError("out of luck")
    return run

def hangs():
    return lambda: time.sleep(60)

def number():
    return 3

def wants(argument):
    return argument
"""


@pytest.fixture
def folder(tmp_path, chain):
    (tmp_path / "made.py").write_text(CODE)
    (tmp_path / "long.onnx").write_bytes(chain(20))
    (tmp_path / "short.onnx").write_bytes(chain(1))
    return tmp_path


@pytest.fixture
def look(folder, cpu, samples):
    def run(candidate, reference="short.onnx"):
        x = np.ones((4, 64), np.float32)
        given = samples(x, None, input="h0")
        return first_look(folder / candidate, cpu, given, reference=folder / reference)

    return run


def code(folder, name):
    return f"{folder / 'made.py'}:{name}"


def describe(model, target):
    """What one fresh process says of a model."""
    return Fresh({"reference": str(model)}, Workers(fresh_target(target))).signatures()


def test_two_files_are_timed_in_fresh_processes(folder, cpu):
    names = folder / "long.onnx", folder / "short.onnx"
    told = compare_file_latency(*names, cpu, batch=64, plan=SHORT, speedups=[1.5])
    assert told.fresh == "process"
    assert told.speedup.value > 2
    assert told.batch == 64
    assert len(told.rounds) == len({one.starts["reference"].open_ms for one in told.rounds}) >= 2
    assert told.reference.environment["provider"] == "CPUExecutionProvider"
    assert told.reference.environment["spinning"] is False
    assert "cpu" in told.reference.environment["host"]
    start = told.to_json()["candidate_start"]
    assert start["open_ms"] > 0
    assert start["first_ms"] > 0
    if sys.platform == "linux":
        assert start["peak_bytes"] is None or start["peak_bytes"] > 0


def test_functions_of_files_are_timed_in_fresh_processes(folder, cpu):
    names = code(folder, "idle"), code(folder, "slow")
    told = compare_file_latency(*names, cpu, plan=SHORT)
    assert told.fresh == "process"
    assert told.ratio.value > 10  # of thousands: no neighbour makes nothing as slow as a sleep
    assert min(told.candidate.values) >= 20
    assert told.batch is None


@pytest.mark.parametrize(("at", "outcome"), [(1, "FAIL"), (0, "UNDECIDED")])
def test_a_model_that_kills_its_process_is_named_and_judged(folder, cpu, at, outcome):
    names = [str(folder / "short.onnx"), str(folder / "short.onnx")]
    names[at] = code(folder, "aborts")
    with pytest.raises(Crash) as caught:
        compare_file_latency(*names, cpu, plan=SHORT)
    assert caught.value.label == ("reference", "candidate")[at]
    assert "SIGSEGV" in str(caught.value)
    assert speedup_check(caught.value, 1.0).outcome == outcome


def test_a_candidate_is_looked_at_in_a_process_of_its_own(folder, look):
    assert look("long.onnx") is None
    crash = look("made.py:aborts_at_once")
    assert (crash.label, crash_check(crash).outcome) == ("candidate", "FAIL")
    assert "SIGABRT" in crash_check(crash).why


def test_what_the_reference_does_as_well_is_not_the_candidate_s_fault(look):
    crash = look("made.py:aborts_at_once", "made.py:aborts_at_once")
    assert (crash.label, crash_check(crash).outcome) == ("reference", "UNDECIDED")


def test_models_that_do_not_fit_are_told_before_anything_is_asked(folder, look, scaled):
    (folder / "other.onnx").write_bytes(scaled())
    with pytest.raises(UserError, match="the two models do not take and give the same"):
        look("other.onnx")


def test_a_reference_that_crashes_leaves_it_undecided():
    assert crash_check(Crash("reference", "was killed", "")).outcome == "UNDECIDED"


def test_the_last_words_of_a_process_are_told(folder, cpu):
    with pytest.raises(Crash, match="ended with exit code 1; its last words: .*out of luck"):
        compare_file_latency(code(folder, "steady"), code(folder, "raises"), cpu, plan=SHORT)


def test_a_process_that_never_ends_is_ended(folder, cpu):
    models = {"reference": code(folder, "hangs")}
    workers = Workers(fresh_target(cpu), patience=1.0)
    fresh, began = Fresh(models, workers), time.monotonic()
    with pytest.raises(Crash, match="the process of the reference gave no answer for 1 s"):
        from deploypipe.validate.fresh import saved
        from deploypipe.validate.interleave import Pace, Turns

        file = saved([{}], folder)
        fresh.round(["reference"], file, [Turns(("reference",))], Pace(rounds=1), "0")
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("name", "message"),
    [("none", "there is no function 'none'"), ("number", "it returned int"),
     ("wants", "takes no argument")],
)  # fmt: skip
def test_code_that_builds_nothing_is_a_mistake_not_a_crash(folder, cpu, name, message):
    with pytest.raises(UserError, match=message):
        describe(code(folder, name), cpu)


def test_what_is_wrong_with_a_file_comes_back_as_the_user_s_error(folder, cpu):
    (folder / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(UserError, match=r"broken\.onnx: ONNX Runtime .* cannot load this model"):
        describe(folder / "broken.onnx", cpu)
    with pytest.raises(UserError, match="there is no such model file"):
        describe(folder / "none.onnx", cpu)


def test_a_missing_target_is_told_as_here(folder):
    target = TARGETS.build({"cuda": {"device": 0}})
    if target.missing() is None:
        pytest.skip("there is a GPU")
    with pytest.raises(EnvironmentLacks):
        describe(folder / "short.onnx", target)


def test_a_file_called_like_a_module_of_python_is_not_imported(folder, cpu, monkeypatch):
    (folder / "json.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(folder)
    told = describe("short.onnx", cpu)
    assert [spec.name for spec in told["reference"].inputs] == ["h0"]


def test_callables_of_this_process_are_timed_in_it_and_the_result_says_so(cpu):
    told = experiment_on(lambda: None, lambda: time.sleep(0.02), cpu, plan=SHORT).comparison()
    assert told.fresh == "session"
    assert told.ratio.value > 10
    assert told.reference.environment["runtime"] == "python"


def test_a_function_is_called_with_the_feed_if_it_takes_one(cpu):
    seen = []
    feeds = [{"x": np.full((2, 1), i)} for i in range(3)]
    experiment_on(seen.append, seen.append, cpu, feeds=feeds, plan=SHORT).comparison()
    assert {int(feed["x"][0, 0]) for feed in seen} == {0, 1, 2}


def test_a_torch_module_is_timed_against_a_file(folder, cpu):
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(64, 64).train()
    told = experiment_on(
        folder / "long.onnx", module, cpu, batch=64, plan=Plan(Looks((3,)), seconds=1.0, blocks=2)
    ).comparison()
    assert told.candidate.environment["provider"] == "torch"
    assert not module.training
    assert "different environments" not in speedup_check(told, 1.0).why


def test_what_cannot_be_called_is_a_mistake(cpu):
    with pytest.raises(UserError, match="int can not be called"):
        experiment_on(3, 4, cpu)


def test_no_feed_is_a_mistake(cpu):
    with pytest.raises(UserError, match="no input to time with"):
        experiment_on(len, len, cpu, feeds=[])


def test_a_short_budget_has_no_time_for_processes(folder, cpu):
    names = folder / "short.onnx", folder / "short.onnx"
    plan = Plan(Looks((3,)), seconds=0.5, blocks=2)
    assert compare_file_latency(*names, cpu, plan=plan).fresh == "session"


def test_a_target_of_a_plug_in_stays_in_this_process(cpu):
    class Mine(type(cpu)):
        pass

    assert fresh_target(Mine(threads=1)) is None
    assert fresh_target(cpu) == {"cpu": {"threads": 1}}


def test_waiting_processes_and_their_folders_are_gone_afterwards(cpu):
    workers = Workers(fresh_target(cpu))
    workers.expect(2)
    processes = [(one.process, one.folder) for one in workers.waiting]
    workers.expect(0)
    assert all(process.poll() is not None for process, _ in processes)
    assert not any(folder.exists() for _, folder in processes)


def test_a_worker_loads_little_before_it_has_work():
    heavy = ("torch", "onnx", "pydantic", "rich", "typer", "scipy", "sklearn")
    script = (
        "import sys, deploypipe.validate.worker, deploypipe.runtime.session, json;"
        f"print(json.dumps([m for m in {heavy!r} if m in sys.modules]))"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root
    )
    assert json.loads(done.stdout) == []
