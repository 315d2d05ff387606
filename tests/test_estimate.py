"""What a plan tells: steps, samples, seconds, memory; and nothing is written."""

from __future__ import annotations

import json

import pytest

from deploypipe.core.files import digest_tree
from deploypipe.estimate import estimate
from deploypipe.pipeline import plan


def test_every_step_is_told_and_nothing_is_written(tiny):
    tiny.recipe["steps"] = ["optimize", "quantize", {"validate": {"seconds": 10}}, "bundle"]
    planned = plan(tiny.file)
    before = digest_tree(tiny.folder)
    found = estimate(planned)
    assert digest_tree(tiny.folder) == before
    steps = {step["step"]: step for step in found["steps"]}
    assert list(steps) == ["source", "optimize", "quantize", "validate", "bundle"]
    assert steps["quantize"]["samples"] == {"calibration": 50}
    assert steps["validate"]["seconds"] == pytest.approx(13, abs=1)
    assert found["seconds"] == pytest.approx(sum(s["seconds"] for s in steps.values()), abs=0.1)
    assert found["memory"] == max(step["memory"] for step in steps.values())
    json.dumps(found)


def test_training_costs_by_its_epochs_and_holds_its_samples(net_file, net_samples, tmp_path):
    def planned(epochs):
        train = {"train": {"epochs": epochs, "bf16": False}}
        recipe = {
            "name": "net",
            "model": f"{net_file}:net",
            "data": {"source": f"npz:{net_samples}", "split": {"validation": 1}},
            "steps": [train, "export"],
        }
        (tmp_path / "r.yaml").write_text(json.dumps(recipe))
        return estimate(plan(tmp_path / "r.yaml"))

    few, many = (
        next(step for step in planned(epochs)["steps"] if step["step"] == "train")
        for epochs in (1, 10_000)
    )
    assert many["seconds"] > few["seconds"]
    assert few["memory"] > 119 * 3 * 8 * 8
    assert few["samples"] == {"train": 119, "validation": 1}
