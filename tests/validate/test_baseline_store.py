"""Baselines are models that can be run again."""

import json

import numpy as np
import onnx
import pytest

from deploypipe.core.errors import IntegrityError, UserError
from deploypipe.runtime import TARGETS
from deploypipe.validate.baseline_store import Baseline, Baselines, changed, machine

HERE = {"cpu": "a", "flags": ["avx2"], "target": {"cpu": {"threads": 2}}}


@pytest.fixture
def model(tmp_path, scaled):
    file = tmp_path / "model.onnx"
    file.write_bytes(scaled())
    return file


@pytest.fixture
def store(tmp_path):
    return Baselines(tmp_path / "kept")


def test_nothing_is_found_before_anything_is_kept(store):
    assert store.find("test_a") is None
    assert not store.folder.exists()


def test_what_is_kept_is_found_and_is_the_same_model(store, model):
    store.keep("test_a", model, HERE, "d" * 64)
    found = store.find("test_a")
    assert found.model.read_bytes() == model.read_bytes()
    assert (found.environment, found.data) == (HERE, "d" * 64)
    model.unlink()
    assert store.find("test_a").model.is_file()


def test_equal_models_are_kept_once_and_unnamed_ones_not_at_all(store, model, scaled):
    for name in ("test_a", "test_b"):
        store.keep(name, model, HERE)
    objects = store.folder / "objects"
    assert len(list(objects.iterdir())) == 1
    model.write_bytes(scaled((1, 2, 3)))
    store.keep("test_a", model, HERE)
    assert len(list(objects.iterdir())) == 2
    store.keep("test_b", model, HERE)
    assert len(list(objects.iterdir())) == 1
    assert store.find("test_b").digest == store.find("test_a").digest


def test_external_data_come_along(store, tmp_path):
    node = onnx.helper.make_node("Mul", ["x", "w"], ["y"])
    ends = [onnx.helper.make_tensor_value_info(n, 1, [512]) for n in ("x", "y")]
    weight = onnx.numpy_helper.from_array(np.ones(512, np.float32), "w")
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], [weight])
    opsets = [onnx.helper.make_opsetid("", 20)]
    made = onnx.helper.make_model(graph, ir_version=10, opset_imports=opsets)
    file = tmp_path / "big.onnx"
    onnx.save(made, file, save_as_external_data=True, location="big.bin", size_threshold=0)
    kept = store.keep("test_a", file, HERE)
    (tmp_path / "big.bin").unlink()
    with TARGETS.build("cpu").open(kept.model) as session:
        assert session({"x": np.ones(512, np.float32)})["y"].sum() == 512


def test_files_that_were_changed_since_are_refused(store, model):
    kept = store.keep("test_a", model, HERE)
    kept.model.write_bytes(b"else")
    with pytest.raises(IntegrityError, match="are not those that were kept"):
        store.find("test_a")


def test_an_index_that_is_no_json_is_told(store, model):
    store.keep("test_a", model, HERE)
    (store.folder / "baselines.json").write_text("{")
    with pytest.raises(IntegrityError, match="it is no JSON"):
        store.find("test_a")


def test_a_missing_model_is_not_kept(store, tmp_path):
    with pytest.raises(UserError, match="no such model file to keep"):
        store.keep("test_a", tmp_path / "none.onnx", HERE)


def test_a_baseline_of_this_machine_and_these_samples_fits(model):
    kept = Baseline("a", model, "", HERE, "d" * 64)
    assert changed(kept, HERE, None) is None
    assert changed(kept, None, "d" * 64) is None


def test_what_differs_is_told(model):
    kept = Baseline("a", model, "", HERE, "d" * 64)
    told = changed(kept, {**HERE, "cpu": "b"}, None)
    assert told == "the baseline is from another machine: cpu: a against b"
    told = changed(kept, {**HERE, "target": {"cpu": {"threads": 4}}}, None)
    assert "target.cpu.threads: 2 against 4" in told
    assert "the samples have changed" in changed(kept, None, "e" * 64)
    assert "digest none" in changed(Baseline("a", model, "", HERE), None, "e" * 64)


def test_this_machine_is_itself_and_json():
    here = machine(TARGETS.build({"cpu": {"threads": 1}}))
    assert json.loads(json.dumps(here)) == here
    assert {"cpu", "flags", "target", "runtime"} <= here.keys()
