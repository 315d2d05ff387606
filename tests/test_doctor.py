"""What is here, and what would go wrong."""

from __future__ import annotations

import json

from deploypipe import doctor
from deploypipe.core.errors import EnvironmentLacks
from deploypipe.doctor import examine


def test_the_machine_is_described():
    found = examine()
    assert found["exit_code"] == 0
    assert found["targets"]["cpu"] == "ready"
    assert found["extras"]["torch"] == "installed"
    assert "recipe" not in found
    json.dumps(found)


def test_what_is_missing_is_told_with_how_to_install_it(monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert doctor._extra("sklearn") == "not installed: pip install 'deploypipe[demo]'"


def test_a_target_that_cannot_be_made_is_told_and_the_others_too(monkeypatch):
    def get(name, plain=doctor.TARGETS.get):
        if name == "cuda":
            raise EnvironmentLacks("it needs another package")
        return plain(name)

    monkeypatch.setattr(doctor.TARGETS, "get", get)
    targets = examine()["targets"]
    assert targets["cuda"] == "it needs another package."
    assert targets["cpu"] == "ready"


def test_two_builds_that_overwrite_each_other_are_told_whatever_else_is_ready(monkeypatch):
    assert examine()["onnxruntime_builds"] == "no clash"
    monkeypatch.setattr("deploypipe.runtime.onnx_runtime._installed", lambda package: True)
    found = examine()
    assert found["targets"]["cpu"] == "ready"
    assert "overwrite each other" in found["onnxruntime_builds"]


def test_a_good_recipe_has_nothing_in_its_way(tiny):
    found = examine(tiny.file)
    assert found["exit_code"] == 0
    assert found["recipe"]["answer"] == "nothing stands in the way"
    assert found["recipe"]["splits"] == {"validation": 100, "calibration": 50, "train": 50}


def test_the_first_mistake_of_a_recipe_is_told(tiny):
    tiny.recipe["steps"] = ["optimise"]
    found = examine(tiny.file)
    assert found["exit_code"] == 2
    assert "did you mean 'optimize'?" in found["recipe"]


def test_a_missing_target_has_its_own_exit_code(tiny):
    tiny.recipe["target"] = "cuda"
    if examine()["targets"]["cuda"] != "ready":
        assert examine(tiny.file)["exit_code"] == 4
