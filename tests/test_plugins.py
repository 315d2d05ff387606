"""Ten lines of the user's, outside the package, are as good as what lies on the shelves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")

PASS = '''
from dataclasses import dataclass

from deploypipe.graph import GraphPass, Outcome


@dataclass(frozen=True)
class {name}(GraphPass):
    """Write an author into the model."""

    author: str = "nobody"
    times: int = 1

    def call(self, model):
        changes = [] if model.producer_name == self.author else [f"signed by {{self.author}}"]
        model.producer_name = self.author
        return Outcome(model, bool(changes), changes, ["{name} refuses nothing"])
'''


@pytest.fixture
def recipe(tiny):
    tiny.say("sign_it.py", PASS.format(name="SignIt"))
    tiny.recipe["plugins"] = ["sign_it.py"]
    tiny.recipe["steps"] = [{"optimize": {"also": [{"sign-it": {"author": "me"}}]}}]
    return tiny


def test_a_pass_in_a_file_runs_and_is_told_in_the_report(recipe, command, tmp_path):
    ran = command("run", recipe.file, "-o", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    stage = next(one for one in ran.json["stages"] if one["step"] == "optimize")
    assert "signed by me" in stage["changes"]
    assert "SignIt refuses nothing" in stage["refusals"]
    assert stage["options"]["also"] == [{"sign-it": {"author": "me", "times": 1}}]
    assert "signed by me" in (tmp_path / "out" / "report.html").read_text()


def test_its_options_are_checked_as_all_are(recipe, call):
    recipe.recipe["steps"] = [{"optimize": {"also": [{"sign-it": {"autor": "me"}}]}}]
    said = call("plan", recipe.file, "--json")
    assert said.code == 2
    assert "did you mean 'author'?" in said.json["error"]
    assert "steps[0].optimize.also[0].sign-it" in said.json["error"]
    recipe.recipe["steps"] = [{"optimize": {"also": [{"sign-it": {"times": "two"}}]}}]
    assert "expected int, got 'two'" in call("plan", recipe.file, "--json").json["error"]


def test_its_name_is_suggested(recipe, call):
    recipe.recipe["steps"] = [{"optimize": {"also": ["sing-it"]}}]
    assert "did you mean 'sign-it'?" in call("plan", recipe.file, "--json").json["error"]


def test_two_in_one_file_are_called_after_their_classes(recipe, call, tmp_path):
    both = PASS.format(name="SignIt") + PASS.format(name="SealIt").split("Outcome\n", 1)[1]
    recipe.say("sign_it.py", both)
    also = [{"seal-it": {"author": "you"}}, {"sign-it": {"author": "you"}}]
    recipe.recipe["steps"] = [{"optimize": {"also": also}}]
    ran = call("run", recipe.file, "-o", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    names = [next(iter(one)) for one in ran.json["stages"][1]["options"]["also"]]
    assert names == ["seal-it", "sign-it"]


def test_a_file_without_a_plug_in_is_refused(recipe, call):
    recipe.say("sign_it.py", "x = 1\n")
    said = call("plan", recipe.file)
    assert said.code == 2
    assert "defines no plug-in" in said.err
    assert "GraphPass" in said.err


def test_a_file_that_raises_is_told_and_is_no_crash(recipe, call):
    recipe.say("sign_it.py", "1 / 0\n")
    said = call("plan", recipe.file)
    assert said.code == 2
    assert "ZeroDivisionError" in said.err
    assert "Traceback" not in said.err


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder of packages that holds a distribution with an entry point."""
    site = tmp_path / "site"
    about = site / "signing-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "signing.py").write_text(PASS.format(name="SignIt"))
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: signing\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[deploypipe.pass]\nsign-it = signing:SignIt\n")
    return site


def outside(site: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """The command line where that folder is installed: entry points are read once a process."""
    return subprocess.run(
        [sys.executable, "-m", "deploypipe.cli", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_installed_pass_is_listed_and_runs_by_the_name_of_its_entry_point(
    installed, tiny, tmp_path
):
    listed = json.loads(outside(installed, "list", "pass", "--json").stdout)["pass"]["sign-it"]
    assert listed["does"] == "Write an author into the model."
    assert "author" in listed["options"]
    tiny.recipe["steps"] = [{"optimize": {"also": [{"sign-it": {"author": "them"}}]}}]
    ran = outside(installed, "run", tiny.file, "-o", tmp_path / "out", "--json")
    assert ran.returncode == 0, ran.stderr
    stage = json.loads(ran.stdout)["stages"][1]
    assert "signed by them" in stage["changes"]
    assert stage["options"]["also"] == [{"sign-it": {"author": "them", "times": 1}}]
