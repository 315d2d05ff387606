"""A model that was exported for a fixed number of samples goes the whole way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from deploypipe.bundle.verify import verify
from deploypipe.core.errors import UserError
from deploypipe.estimate import estimate
from deploypipe.pipeline import plan, run
from deploypipe.stages import validate
from deploypipe.validate.verdict import Outcome, Verdict

INT8 = {"quantize": {"decide": False}}


def fixed(model: Path, size: int) -> None:
    """Fix the first dimension of what a model takes and gives."""
    loaded = onnx.load(model)
    for value in (*loaded.graph.input, *loaded.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = size
    onnx.save(loaded, model)


@pytest.fixture
def passing(monkeypatch):
    """Whatever this host measures of so small a model."""

    def judge(*given, really=validate.judge):
        return Verdict(tuple(replace(c, outcome=Outcome.PASS) for c in really(*given).checks))

    monkeypatch.setattr(validate, "judge", judge)


@pytest.mark.parametrize("size", [1, 4, 6])  # 6 is no multiple of the 4 goldens
def test_a_recipe_runs_to_its_bundle(size, tiny, short, passing, tmp_path):
    fixed(tiny.model, size)
    tiny.recipe["steps"] = ["optimize", INT8, short, "bundle"]
    planned = plan(tiny.file)
    assert estimate(planned)["seconds"] > 0
    done = run(planned, tmp_path / "out")
    made = {stage["step"]: stage for stage in done.report["stages"]}
    assert made["quantize"]["notes"]["samples"] == 50 - 50 % size
    assert done.report["accuracy"]["samples"] == 100
    assert done.report["latency"]["batch"] == size
    assert verify(tmp_path / "out" / "bundle", planned.target.open)


@pytest.mark.parametrize("split", ["validation", "calibration"])
def test_a_split_smaller_than_the_batch_is_told(split, tiny, tmp_path):
    fixed(tiny.model, 64)
    tiny.recipe["data"]["split"] = {"calibration": 70, "validation": 70, split: 60}
    tiny.recipe["steps"] = ["quantize"]
    with pytest.raises(UserError, match=rf"data\.split\.{split}: the model takes 64 samples at on"):
        run(plan(tiny.file), tmp_path / "out")


def test_a_dynamic_batch_loses_no_sample(tiny, tmp_path):
    tiny.recipe["steps"] = [{"quantize": {"batch": 16, "samples": 41, "decide": False}}]
    done = run(plan(tiny.file), tmp_path / "out")
    assert done.report["stages"][-1]["notes"]["samples"] == 41


def test_a_candidate_of_a_fixed_batch_may_meet_a_dynamic_reference(tiny):
    from deploypipe.verbs import Settings, validate_models

    one = tiny.folder / "one.onnx"
    one.write_bytes(tiny.model.read_bytes())
    fixed(one, 2)
    settings = Settings(f"npz:{tiny.samples}", target={"cpu": {"threads": 1}})
    found = validate_models(tiny.model, one, settings, {}, {"rounds": 3, "seconds": 0.1})
    assert found["latency"]["batch"] == 2
    assert found["accuracy"]["drop_points"] == 0


def test_the_verbs_take_it_too(tiny, tmp_path):
    from deploypipe.verbs import Settings, bench_models, optimize_model, quantize_model

    fixed(tiny.model, 1)
    settings = Settings(f"npz:{tiny.samples}", target={"cpu": {"threads": 1}})
    assert optimize_model(tiny.model, tmp_path / "small.onnx", settings)["changes"]
    assert quantize_model(tiny.model, tmp_path / "int8.onnx", settings, INT8["quantize"])["changes"]
    found = bench_models([tiny.model], settings, batch=3, rounds=3, seconds=0.1)
    assert np.isfinite(found["latency_ms"]["p50"])
