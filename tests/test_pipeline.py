"""A run that is killed, stopped or started twice: what is done stays done, and nothing is half."""

from __future__ import annotations

import copy
import json
import shlex
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime")

SLOW_STEP = '''
import os, shutil, signal, sys, time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deploypipe import cache
from deploypipe.core.artifact import Artifact, Kind
from deploypipe.report import write
from deploypipe.stages import Stage

AT = os.environ.get("KILL_AT", "")


def die(*given, **more):
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def half(copy):
    """A copy that stops when one file is there."""
    def start(source, target, **more):
        Path(target).mkdir()
        copy(next(Path(source).iterdir()), target)
        die()
    return start


if AT == "report":  # the page is half written, report.json is whole
    whole = write.write_text
    def write_text(path, text):
        if path.name == "report.html":
            path.with_name(".report.html.half").mkdir()
            die()
        whole(path, text)
    write.write_text = write_text
if os.environ.get("VERDICT"):  # whatever this host measures
    from dataclasses import replace
    from deploypipe.stages import validate
    from deploypipe.validate.verdict import Outcome, Verdict
    def judge(*given, really=validate.judge):
        checks = really(*given).checks
        return Verdict(tuple(replace(one, outcome=Outcome.PASS) for one in checks))
    validate.judge = judge
if AT == "bundle":
    from deploypipe import pipeline
    pipeline.shutil.copytree = half(shutil.copy)


@dataclass(frozen=True)
class Slow(Stage):
    """Passes the model on, and leaves a mark each time."""

    number: int = 0

    takes: ClassVar[Kind] = Kind.ONNX
    gives: ClassVar[Kind] = Kind.ONNX

    def run(self, source, desk):
        log = Path(os.environ["LOG"])
        with log.open("a") as file:
            file.write(f"{self.number}\\n")
        path = desk.out / "model.onnx"
        data = source.path.read_bytes()
        here = AT.endswith(str(self.number))
        if AT.startswith("middle") and here:
            path.write_bytes(data[: len(data) // 2])
            die()
        if AT.startswith("wait") and here:
            log.with_suffix(".here").touch()
            time.sleep(60)
        path.write_bytes(data)
        if AT.startswith("written") and here:
            cache._sync = die
        return Artifact.of(Kind.ONNX, path, "slow", source, {"changes": [f"number {self.number}"]})
'''


@pytest.fixture
def recipe(tiny):
    """Source, a step, optimize, a step: no times are in the result."""
    return with_slow_steps(tiny)


def with_slow_steps(tiny):
    tiny.say("slow.py", SLOW_STEP)
    tiny.recipe["plugins"] = ["slow.py"]
    tiny.recipe["steps"] = [{"slow": {"number": 1}}, "optimize", {"slow": {"number": 2}}]
    return tiny


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def timeless(report: Any) -> Any:
    """A report without the times at which its stages ran, and without the folder it went to."""
    report = copy.deepcopy(report)
    for key in ("created", "command"):
        report.pop(key)
    for stage in report["stages"]:
        del stage["seconds"], stage["made"]
    return report


def content(out: Path) -> dict[str, bytes]:
    """Every finished artifact's files, by stage."""
    return {
        str(file.relative_to(out)): file.read_bytes()
        for file in sorted(out.glob("stages/*/artifact/**/*"))
        if file.is_file()
    }


def names(out: Path) -> list[str]:
    return sorted(file.name for file in out.iterdir())


MOMENTS = {
    "middle1": ["1", "1", "2"],
    "written1": ["1", "1", "2"],
    "middle2": ["1", "2", "2"],
    "written2": ["1", "2", "2"],
    "report": ["1", "2"],
}


def test_a_killed_run_goes_on_where_it_was_and_ends_as_an_unkilled_one(
    recipe, command, log, tmp_path
):
    unkilled = tmp_path / "unkilled"
    assert command("run", recipe.file, "-o", unkilled, LOG=str(tmp_path / "other")).code == 0
    for moment, marks in MOMENTS.items():
        out = tmp_path / moment
        log.unlink(missing_ok=True)
        killed = command("run", recipe.file, "-o", out, LOG=str(log), KILL_AT=moment)
        assert killed.code == -signal.SIGKILL, (moment, killed)
        assert not (out / "report.html").exists()
        for file in out.glob("stages/*/artifact.json"):
            assert json.loads(file.read_text())["digest"]
        kept = {file: file.stat().st_ino for file in out.glob("stages/[0-9]*/artifact/*")}
        again = command("run", recipe.file, "-o", out, LOG=str(log))
        assert again.code == 0, again.err
        assert log.read_text().split() == marks, moment
        assert {file: file.stat().st_ino for file in kept} == kept
        assert content(out) == content(unkilled)
        reports = [json.loads((one / "report.json").read_text()) for one in (out, unkilled)]
        assert timeless(reports[0]) == timeless(reports[1])
        assert names(out) == names(unkilled), moment
        assert sorted(p.name for p in (out / "stages").iterdir()) == sorted(
            p.name for p in (unkilled / "stages").iterdir()
        )


def test_a_run_killed_while_its_bundle_is_copied_has_none_and_then_a_whole_one(
    tiny, short, command, log, tmp_path
):
    recipe = with_slow_steps(tiny)
    recipe.recipe["steps"] += [short, "bundle"]
    out, sure = tmp_path / "out", {"LOG": str(log), "VERDICT": "PASS"}
    killed = command("run", recipe.file, "-o", out, KILL_AT="bundle", **sure)
    assert killed.code == -signal.SIGKILL, killed.err
    assert not (out / "bundle").exists()
    again = command("run", recipe.file, "-o", out, "--json", **sure)
    assert again.code == 0, again.err
    assert "done in" not in again.err
    assert command("verify", out / "bundle").code == 0
    assert not [name for name in names(out) if name.startswith(".bundle")]


def test_a_second_run_changes_nothing_and_tells_the_same(recipe, command, log, tmp_path):
    out = tmp_path / "out"
    first = command("run", recipe.file, "-o", out, "--json", LOG=str(log))
    stamps = {p: p.stat().st_mtime_ns for p in out.glob("stages/**/*") if p.is_file()}
    second = command("run", recipe.file, "-o", out, "--json", LOG=str(log))
    assert first.json == second.json
    assert "done in" in first.err
    assert "done in" not in second.err
    assert {p: p.stat().st_mtime_ns for p in out.glob("stages/**/*") if p.is_file()} == stamps
    assert log.read_text().split() == ["1", "2"]


def test_an_edited_step_of_the_users_is_run_again(recipe, command, log, tmp_path):
    out = tmp_path / "out"
    command("run", recipe.file, "-o", out, LOG=str(log))
    recipe.say("slow.py", SLOW_STEP.replace('"number {', '"count {'))
    again = command("run", recipe.file, "-o", out, "--json", LOG=str(log))
    assert [stage["changes"] for stage in again.json["stages"]][1] == ["count 1"]


def test_a_damaged_stage_is_made_again(recipe, command, log, tmp_path):
    out = tmp_path / "out"
    first = command("run", recipe.file, "-o", out, "--json", LOG=str(log))
    damaged = next(out.glob("stages/02-optimize-*/artifact/model.onnx"))
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1])
    again = command("run", recipe.file, "-o", out, "--json", LOG=str(log))
    assert again.code == 0, again.err
    assert damaged.read_bytes() == whole
    assert timeless(again.json) == timeless(first.json)
    assert log.read_text().split() == ["1", "2"]


def waiting(recipe, command, log, out):
    """A run that stands in its second slow step."""
    process = command.start("run", recipe.file, "-o", out, "--json", LOG=str(log), KILL_AT="wait2")
    end = time.monotonic() + 60
    while not log.with_suffix(".here").exists():
        assert process.alive, process.end()
        assert time.monotonic() < end
        time.sleep(0.02)
    return process


def test_ctrl_c_stops_cleanly_says_how_to_go_on_and_a_second_run_beside_is_refused(
    recipe, command, call, log, tmp_path
):
    out = tmp_path / "out"
    process = waiting(recipe, command, log, out)
    before = sorted(out.rglob("*"))
    beside = call("run", recipe.file, "-o", out, "--json")
    unchanged = sorted(out.rglob("*")) == before
    process.send(signal.SIGINT)
    stopped = process.end(30)
    assert beside.code == 2
    assert "another run is using this folder" in beside.json["error"]
    assert unchanged
    assert stopped.code == 130
    assert "run the same command to go on" in stopped.err
    assert "Traceback" not in stopped.err
    assert stopped.json["exit_code"] == 130
    assert not list(out.glob("stages/.making-*"))
    assert log.read_text().split() == ["1", "2"]
    again = command("run", recipe.file, "-o", out, LOG=str(log))
    assert again.code == 0, again.err
    assert log.read_text().split() == ["1", "2", "2"]


def test_a_path_with_a_space_is_like_any_other(recipe, command, log, tmp_path):
    folder = tmp_path / "my models"
    shutil.copytree(recipe.folder, folder)
    out = tmp_path / "my results" / "tiny"
    file = recipe.file.rename(folder / "recipe.yaml")
    ran = command("run", file, "-o", out, "--json", LOG=str(log))
    assert ran.code == 0, ran.err
    assert shlex.split(ran.json["command"])[2:] == [str(file), "-o", str(out)]
    assert (out / "report.html").exists()


def test_a_folder_of_the_users_called_bundle_is_left_alone(recipe, call, tmp_path):
    recipe.recipe["steps"], recipe.recipe["plugins"] = ["optimize"], []
    mine = tmp_path / "out" / "bundle" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    ran = call("run", recipe.file, "-o", tmp_path / "out", "--json")
    assert ran.code == 2
    assert "bundle" in ran.json["error"]
    assert mine.read_text() == "mine"
    assert names(tmp_path / "out") == ["bundle"]


def test_a_link_of_the_users_called_bundle_is_left_alone(tiny, call, tmp_path):
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "manifest.json").write_text("{}")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "bundle").symlink_to(tmp_path / "shelf")
    ran = call("run", tiny.file, "-o", tmp_path / "out", "--json")
    assert ran.code == 2
    assert "bundle: is there already and no bundle" in ran.json["error"]
    assert names(tmp_path / "shelf") == ["manifest.json"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("bundle.tar", "is there already and no bundle"),
        ("report.html", "is there already and of no run"),
        ("summary.md", "is there already and of no run"),
    ],
)
def test_a_file_of_the_users_that_is_called_as_ours_is_left_alone(tiny, call, tmp_path, name, told):
    mine = tmp_path / "out" / name
    mine.parent.mkdir()
    mine.write_text("mine")
    ran = call("run", tiny.file, "-o", tmp_path / "out", "--json")
    assert ran.code == 2
    assert f"{name}: {told}" in ran.json["error"]
    assert names(tmp_path / "out") == [name]
    assert mine.read_text() == "mine"


def test_a_run_goes_over_one_whose_stages_are_gone(tiny, short, call, tmp_path):
    out = tmp_path / "out"
    assert call("run", tiny.file, "-o", out).code == 0
    shutil.rmtree(out / "stages")
    assert call("run", tiny.file, "-o", out).code == 0


def test_an_older_bundle_in_a_tar_does_not_stay(tiny, call, tmp_path):
    data = f"npz:{tiny.samples}"
    call("pack", tiny.model, "-o", tmp_path / "out" / "bundle.tar", "--data", data)
    assert names(tmp_path / "out") == ["bundle.tar"]
    assert call("run", tiny.file, "-o", tmp_path / "out").code == 0
    assert "bundle.tar" not in names(tmp_path / "out")


def test_a_step_after_the_bundle_is_told_where_it_belongs(tiny, short, call):
    tiny.recipe["steps"] = [short, "bundle", "optimize"]
    assert "gets bundle. Move it before the bundle step." in call("plan", tiny.file).err


def test_a_model_without_a_function_is_told(tiny, call):
    tiny.recipe |= {"model": "net.py", "steps": ["export"]}
    told = "model.build: expected FILE.py:FUNCTION or MODULE:FUNCTION, got 'net.py'."
    assert told in call("plan", tiny.file).err


TORCH_MODEL = """
from torch import nn


def small():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )
"""


def test_a_torch_run_killed_after_training_does_not_train_again(tmp_path, command, log):
    np, _ = pytest.importorskip("numpy"), pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    label = np.arange(90) % 3
    images = generator.standard_normal((90, 1, 6, 6)) + label[:, None, None, None]
    np.savez(tmp_path / "samples.npz", input=images.astype(np.float32), label=label)
    (tmp_path / "model.py").write_text(TORCH_MODEL)
    (tmp_path / "slow.py").write_text(SLOW_STEP)
    steps = [{"train": {"epochs": 1, "batch": 16}}, {"prune": {"amount": 0.5}}, "export"]
    recipe = {
        "name": "small",
        "plugins": ["slow.py"],
        "model": "model.py:small",
        "data": {"source": "npz:samples.npz", "split": {"calibration": 10, "validation": 20}},
        "steps": [*steps, {"slow": {"number": 1}}, "optimize"],
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(recipe))
    killed = command("run", file, "-o", tmp_path / "a", LOG=str(log), KILL_AT="middle1")
    assert killed.code == -signal.SIGKILL, killed.err
    again = command("run", file, "-o", tmp_path / "a", "--json", LOG=str(log))
    assert again.code == 0, again.err
    done = [
        line.partition("] ")[2].partition(":")[0]
        for line in again.err.splitlines()
        if "already done" in line
    ]
    assert done == ["source", "train", "reference", "prune", "export"]
    unkilled = command("run", file, "-o", tmp_path / "b", "--json", LOG=str(log))
    assert timeless(again.json) == timeless(unkilled.json)
    assert content(tmp_path / "a") == content(tmp_path / "b")
