"""The examples for CI: the shell one for real, the words of the other one against the command line."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import onnx.parser
import pytest
import typer
import yaml

from deploypipe.cli import app

CI = Path(__file__).parents[2] / "examples" / "ci"
GATE, WORKFLOW = CI / "latency_gate.sh", CI / "github-actions.yml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, chain):
    """Models, the command ``deploypipe``, and one of that name which only ends with $ENDS."""
    path = tmp_path_factory.mktemp("ci")
    for name, length in (("short", 1), ("long", 40)):
        onnx.save(chain(length), path / f"{name}.onnx")
    commands = {"real": f'exec "{sys.executable}" -m deploypipe.cli "$@"', "said": "exit $ENDS"}
    for name, line in commands.items():
        (path / name).mkdir()
        command = path / name / "deploypipe"
        command.write_text(f'#!/bin/sh\necho "$@"\n{line}\n')
        command.chmod(0o755)
    return path


def gate(folder, command, *words, **variables):
    paths = os.pathsep.join([str(folder / command), os.environ["PATH"]])
    kept = {key: value for key, value in os.environ.items() if key != "GITHUB_ACTIONS"}
    environment = {**kept, "PATH": paths, "PYTHONPATH": str(CI.parents[1]), **variables}
    done = subprocess.run(
        ["sh", str(GATE), *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_slower_model_stops_the_gate_and_a_faster_one_passes(folder):
    how = ("5%", "--seconds", "2", "--batch", "64", "--threads", "1")
    code, told = gate(folder, "real", "long.onnx", "short.onnx", *how)
    # A host that is too noisy even for forty times the work leaves it undecided, and says so.
    if "warning: undecided" not in told:
        assert code == 1
        assert "error: long.onnx is more than 5% slower than short.onnx" in told
    code, told = gate(folder, "real", "short.onnx", "long.onnx", *how)
    assert code == 0, told


def test_a_missing_file_is_told_and_has_its_code(folder):
    code, told = gate(folder, "real", "none.onnx", "short.onnx")
    assert code == 2
    assert "none.onnx: no such model file" in told
    assert "error: nothing was measured (exit code 2)" in told


@pytest.mark.parametrize(
    ("ends", "strict", "code", "told"),
    [
        (0, "", 0, ""),
        (1, "", 1, "error: a.onnx is more than 5% slower than b.onnx"),
        (3, "", 0, "warning: undecided whether a.onnx"),
        (3, "1", 3, "warning: undecided whether a.onnx"),
        (4, "", 4, "error: nothing was measured (exit code 4)"),
    ],
)
def test_every_exit_code_has_its_answer(folder, ends, strict, code, told):
    found, text = gate(folder, "said", "a.onnx", "b.onnx", ENDS=str(ends), STRICT=strict)
    assert found == code
    assert text.splitlines()[0] == "bench a.onnx b.onnx --margin 5%"
    assert told in text
    assert len(text.splitlines()) == (2 if told else 1)


def test_on_github_the_answer_is_an_annotation(folder):
    words = ("a.onnx", "b.onnx", "10%", "--threads", "1")
    _, text = gate(folder, "said", *words, ENDS="3", STRICT="", GITHUB_ACTIONS="true")
    first, second = text.splitlines()
    assert first == "bench a.onnx b.onnx --margin 10% --threads 1"
    assert second.startswith("::warning title=latency::undecided")


def test_a_missing_word_is_told(folder):
    code, text = gate(folder, "said", "a.onnx", ENDS="0")
    assert code != 0
    assert "BASELINE.onnx is missing" in text


def test_the_workflow_names_only_what_there_is():
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["gate"]["steps"]
    scripts = [step["run"] for step in steps if "run" in step]
    lines = [line for script in scripts for line in script.splitlines()]
    known = {
        name: {option for one in command.params for option in one.opts}
        for name, command in typer.main.get_command(app).commands.items()
    }
    used = [
        shlex.split(line.removesuffix("||")) for line in lines if line.startswith("deploypipe ")
    ]
    used.append(["deploypipe", "bench", "--margin"])  # what the gate adds
    assert {words[1] for words in used} == {"validate", "bench"}
    for words in used:
        assert {word for word in words if word.startswith("--")} <= known[words[1]]


def test_the_workflow_s_gate_and_options_of_pytest_are_there():
    text = WORKFLOW.read_text()
    assert f"ci/{GATE.name}" in text
    assert os.access(GATE, os.X_OK)
    plugin = (CI.parents[1] / "deploypipe" / "pytest_plugin.py").read_text()
    for option in re.findall(r"--deploypipe-\w+", text):
        assert f'"{option}"' in plugin
