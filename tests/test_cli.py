"""Every command: help, one JSON document, exit codes, and inputs that stay as they are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from deploypipe import cli
from deploypipe.core.files import sha256_file

pytest.importorskip("onnxruntime")

COMMANDS = [
    "run", "plan", "doctor", "list", "inspect", "export", "optimize", "quantize",
    "validate", "bench", "pack", "verify", "verify-channels", "report", "schema",
]  # fmt: skip


def test_these_are_all_commands():
    names = [one.name or one.callback.__name__ for one in cli.app.registered_commands]
    assert sorted(names) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_json(call, name):
    said = call(name, "--help")
    assert said.code == 0
    assert "Usage: deploypipe" in said.out
    assert "--json" in said.out
    assert said.err == ""


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without asking it")
def test_a_command_that_is_told_to_end_leaves_nothing_behind(tiny):
    (tiny.folder / "temporary").mkdir()
    words = ["-m", "deploypipe.cli", "bench", str(tiny.model), str(tiny.model), "--seconds", "30"]
    environment = {**os.environ, "TMPDIR": str(tiny.folder / "temporary")}
    root = Path(cli.__file__).parents[1]
    with subprocess.Popen([sys.executable, *words], cwd=root, env=environment) as one:
        until = time.monotonic() + 60
        while not list(tiny.folder.glob("temporary/*/*/doing.txt")) and time.monotonic() < until:
            time.sleep(0.01)
        one.send_signal(signal.SIGTERM)
    assert one.returncode == 128 + signal.SIGTERM
    left = [path.name for path in tiny.folder.glob("temporary/*")]
    assert [name for name in left if not name.endswith(".lock")] == []


def test_no_words_give_help(call):
    said = call()
    assert said.code == 0
    assert all(f"\n  {name} " in said.out for name in COMMANDS)
    assert "..." not in said.out.replace("[ARGS]...", "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["quantise"], "Did you mean 'quantize'"),
        (["bench", "a.onnx", "--bach", "2"], "--batch"),
        (["quantize"], "MODEL.onnx"),
        (["list", "pases"], "did you mean 'pass'?"),
        (["bench", "a.onnx", "--batch", "two"], "'--batch'"),
        (["bench", "a.onnx", "b.onnx", "--margin", "much"], "5%"),
        (["bench", "a.onnx", "b.onnx", "--margin", "200%"], "200%"),
        (["run", "no.yaml"], "no such recipe"),
        (["optimize", "no.onnx", "-o", "x.onnx"], "no.onnx"),
        (["inspect", "no.onnx"], "no.onnx"),
        (["verify", "no"], "no such bundle"),
        (["verify-channels", "a.onnx", "b.onnx", "no.json"], "no.json"),
        (["verify-channels", "a.onnx", "b.onnx", "c.json", "--size", "N=x"], "NAME=N"),
        (["bench", "no.onnx", "--target", "cpus"], "did you mean 'cpu'?"),
        (["export", "m.py:f", "-o", "x", "--input", "image=3,a"], "NAME=3,32,32"),
        (["export", "m.py:f", "-o", "x", "--input", "image=3,-1"], "NAME=3,32,32"),
        (["export", "m.py:f", "-o", "x", "--input", "=3"], "NAME=3,32,32"),
        (["bench", "a.onnx", "--batch", "0"], "'--batch'"),
        (["bench", "a.onnx", "--seconds", "-1"], "'--seconds'"),
        (["bench", "a.onnx", "--seconds", "inf"], "--seconds: a time must be positive and end"),
        (["bench", "a.onnx", "--seconds", "nan"], "'--seconds'"),
        (["bench", "no.onnx", "--threads", "0"], "threads must be at least 1, got 0"),
        (["validate", "a.onnx", "b.onnx", "--budget", "speedup=fast"], "NAME=NUMBER"),
        (["validate", "a.onnx", "b.onnx", "--budget", "spedup=2"], "did you mean 'speedup'?"),
    ],
)
def test_a_mistake_is_one_paragraph_and_exit_code_2(call, words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = call(*words)
    assert said.code == 2
    assert told in said.err
    assert said.err.startswith("deploypipe: ")
    assert said.err.count("\n") == 1
    assert said.out == ""
    as_json = call(*words, "--json")
    assert as_json.code == 2
    assert as_json.json == {"error": said.err.removeprefix("deploypipe: ").strip(), "exit_code": 2}
    assert not list(tmp_path.iterdir())


@pytest.fixture
def files(wide, call):
    """A model, one without its dead channels, and what a command may need."""
    small = wide.folder.parent / "small.onnx"
    assert call("optimize", wide.model, "-o", small).code == 0
    return wide.model, small, f"npz:{wide.samples}"


def everything(folder: Path) -> dict[str, str]:
    return {str(file): sha256_file(file) for file in folder.rglob("*") if file.is_file()}


def test_every_verb_says_one_json_document_and_leaves_its_inputs_alone(files, wide, call, tmp_path):
    model, small, data = files
    recipe = wide.file
    given, out = everything(wide.folder), tmp_path / "out"
    runs = {
        "run": [recipe, "-o", out / "run"],
        "plan": [recipe],
        "doctor": [recipe],
        "list": [],
        "inspect": [model],
        "optimize": [model, "-o", out / "o.onnx", "--data", data],
        "quantize": [model, "-o", out / "q.onnx", "--data", data, "--samples", "20"],
        "bench": [small, model, "--seconds", "0.5"],
        "pack": [small, "-o", out / "bundle", "--data", data],
        "verify": [out / "bundle"],
        "schema": [],
    }
    for name, words in runs.items():
        said = call(name, *words, "--json")
        assert said.code == 0 or (name, said.code) == ("bench", 3), (name, said.err)
        assert isinstance(said.json, dict), name
        assert said.out.count("\n") == 1 or name == "schema"
        assert everything(wide.folder) == given, name
    made = {file.name for file in out.iterdir()}
    assert made == {"run", "o.onnx", "q.onnx", "bundle"}
    assert (out / "o.onnx").stat().st_size < model.stat().st_size / 10


def test_every_verb_tells_a_person_too(files, wide, call, tmp_path):
    model, small, data = files
    told = {
        ("run", wide.file, "-o", tmp_path / "run"): "All of it lies in",
        ("plan", wide.file): "optimize",
        ("doctor",): "onnxruntime",
        ("list", "passes"): "drop-dead-channels",
        ("inspect", model): "float32[N, 8]",
        ("optimize", model, "-o", tmp_path / "o.onnx"): "bytes",
        ("bench", small, model, "--seconds", "0.5"): "%",
        ("bench", small, "--seconds", "0.5"): "ms",
        ("pack", small, "-o", tmp_path / "b.tar", "--data", data): "b.tar",
        ("verify", tmp_path / "b.tar"): "all as listed",
    }
    for words, text in told.items():
        said = call(*words)
        assert said.code == 0 or (words[0], said.code) == ("bench", 3), (words, said.err)
        assert text in said.out, words
        with pytest.raises(ValueError):
            json.loads(said.out)


def test_the_output_may_not_be_the_input(tiny, call):
    before = everything(tiny.folder)
    for name in ("optimize", "quantize"):
        data = ["--data", f"npz:{tiny.samples}"]
        said = call(name, tiny.model, "-o", tiny.model, *data)
        assert said.code == 2, name
        assert "the output is the input" in said.err
    assert everything(tiny.folder) == before


def outcome(name: str):
    """A comparison of latencies that was decided so."""

    def check(latency, limit, name="speedup"):
        from deploypipe.validate.verdict import Check

        return Check(name, 1.0, 0.9, 1.1, limit, "x", outcomes[answer], "it was decided", "least")

    from deploypipe.validate.verdict import Outcome

    answer = name
    outcomes = {
        "not slower": Outcome.PASS, "slower": Outcome.FAIL, "undecided": Outcome.UNDECIDED
    }  # fmt: skip
    return check


@pytest.mark.parametrize(("answer", "code"), [("not slower", 0), ("slower", 1), ("undecided", 3)])
def test_bench_ends_as_it_answers(tiny, call, monkeypatch, answer, code):
    from deploypipe import verbs

    monkeypatch.setattr(verbs, "speedup_check", outcome(answer))
    said = call("bench", tiny.model, tiny.model, "--seconds", "0.1", "--json")
    assert (said.json["answer"], said.code) == (answer, code)


def test_bench_allows_the_margin_that_was_asked_for(tiny, call, monkeypatch):
    from deploypipe import verbs

    limits = []
    decided = outcome("not slower")
    monkeypatch.setattr(
        verbs, "speedup_check", lambda *a, **k: limits.append(a[1]) or decided(*a, **k)
    )
    call("bench", tiny.model, tiny.model, "--seconds", "0.1", "--margin", "25%")
    call("bench", tiny.model, tiny.model, "--seconds", "0.1", "--margin", "0.25")
    assert limits == [0.8, 0.8]


@pytest.mark.parametrize(("answer", "code"), [("PASS", 0), ("FAIL", 1), ("UNDECIDED", 3)])
def test_run_and_validate_end_as_the_verdict(
    tiny, short, call, monkeypatch, tmp_path, answer, code
):
    from deploypipe.stages import validate
    from deploypipe.validate.judge import judge
    from deploypipe.validate.verdict import Outcome, Verdict

    def decided(*given):
        first = judge(*given).checks[0]
        return Verdict((replace(first, outcome=Outcome(answer), why="it was decided"),))

    monkeypatch.setattr(validate, "judge", decided)
    tiny.recipe["steps"] = ["optimize", short, "bundle"]
    said = call("run", tiny.file, "-o", tmp_path / "out", "--json")
    assert (said.json["verdict"]["outcome"], said.code) == (answer, code)
    assert (tmp_path / "out" / "bundle").exists() == (answer == "PASS")
    made = next((tmp_path / "out" / "stages").glob("01-*")) / "artifact" / "model.onnx"
    assert made.exists()


def test_validate_compares_two_files(files, call):
    model, small, data = files
    words = ["validate", model, small, "--data", data, "--samples", "40"]
    words += ["--seconds", "0.4", "--budget"]
    said = call(*words, "shrink=4,speedup=1.1,accuracy_drop=20", "--json")
    checks = {check["name"]: check for check in said.json["verdict"]["checks"]}
    assert checks["shrink"]["outcome"] == "PASS"
    assert checks["accuracy drop"]["outcome"] == "PASS"
    assert checks["speedup"]["limit"] == 1.1
    assert said.code == {"PASS": 0, "UNDECIDED": 3}[said.json["verdict"]["outcome"]]
    assert call(*words, "shrink=100000000").code == 1


def test_what_is_missing_here_ends_with_4_and_says_what_to_install(tiny, call, monkeypatch):
    from deploypipe.runtime.targets.cuda import Cuda

    monkeypatch.setattr(Cuda, "missing", lambda self: "it is not here: pip install this")
    said = call("inspect", tiny.model, "--target", "cuda", "--json")
    assert said.code == 4
    assert "pip install this" in said.json["error"]


def test_a_damaged_bundle_ends_with_5(files, call, tmp_path):
    _, small, data = files
    call("pack", small, "-o", tmp_path / "bundle", "--data", data)
    (tmp_path / "bundle" / "model.onnx").write_bytes(b"other")
    said = call("verify", tmp_path / "bundle", "--json")
    assert said.code == said.json["exit_code"] == 5


def test_changes_on_the_command_line_reach_the_recipe_and_the_report_tells_them(
    tiny, call, tmp_path
):
    words = ["run", tiny.file, "-o", tmp_path / "out", "--json"]
    words += ["--set", "steps.optimize.tolerance=0.5", "--set", "data.split.validation=60"]
    said = call(*words)
    assert said.code == 0, said.err
    assert said.json["stages"][1]["options"]["tolerance"] == 0.5
    assert said.json["data"]["splits"]["validation"]["samples"] == 60
    assert "--set data.split.validation=60" in said.json["command"]


def test_plan_writes_nothing(tiny, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = everything(tmp_path) | {str(tiny.file): sha256_file(tiny.file)}
    assert call("plan", tiny.file, "--json").code == 0
    assert everything(tmp_path) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device", "/scratch/a"), "/scratch/a: no space is left on"),
        (OSError(28, "No space left on device"), "set TMPDIR to another folder"),
        (MemoryError("Unable to allocate 9 TiB"), "There is not enough memory"),
    ],
)
def test_what_the_machine_has_run_out_of_is_told_without_a_traceback(
    monkeypatch, call, error, told
):
    def fail(_):
        raise error

    monkeypatch.setattr("deploypipe.catalogue.catalogue", fail)
    said = call("list")
    assert said.code == 4
    assert told in said.err
    assert "Traceback" not in said.err and "bug" not in said.err


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--budget", "shrink=1", "--budget=speedup=2"], "--budget"),
        (["--samples", "3", "--samples", "4"], "--samples"),
    ],
)
def test_an_option_that_comes_twice_is_not_passed_over(tiny, call, words, option):
    said = call("validate", tiny.model, tiny.model, "--data", f"npz:{tiny.samples}", *words)
    assert (said.code, said.err) == (
        2,
        f"deploypipe: {option}: it comes twice, and takes one value.\n",
    )


def test_what_may_come_twice_does(tiny, call):
    assert call("plan", tiny.file, "--set", "seed=1", "--set", "name=b", "--json").code == 0


def test_a_bug_of_ours_shows_its_traceback_and_has_its_own_exit_code(monkeypatch, call):
    monkeypatch.setattr("deploypipe.catalogue.catalogue", lambda kind: 1 / 0)
    said = call("list")
    assert said.code == 70
    assert "ZeroDivisionError" in said.err
    assert "bug of deploypipe" in said.err


@pytest.mark.parametrize(
    ("word", "told"),
    [("run", "Finished stages are kept: run the same command"), ("inspect", "is as it was before")],
)
def test_a_stop_says_what_is_left(monkeypatch, capsys, word, told):
    from deploypipe import cli

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", stop)
    monkeypatch.setattr(cli, "_check_once", lambda words: None)  # it reads the app's commands
    monkeypatch.setattr(sys, "argv", ["deploypipe", word, "x"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == cli.STOPPED
    assert told in capsys.readouterr().err
