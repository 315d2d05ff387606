"""Baselines are models that can be run again."""

import json

import numpy as np
import onnx
import pytest

from deploypipe.core.errors import IntegrityError, UserError
from deploypipe.runtime import TARGETS
from deploypipe.validate.baseline_store import (
    Baseline,
    Baselines,
    changed,
    default_name,
    machine,
)

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
    later = Baselines(store.folder)
    later.keep("test_a", model, HERE)
    assert len(list(objects.iterdir())) == 2
    later.keep("test_b", model, HERE)
    assert len(list(objects.iterdir())) == 1
    assert store.find("test_b").digest == store.find("test_a").digest


def test_a_name_holds_one_model_a_run(store, model, scaled):
    kept = store.keep("shared", model, HERE)
    store.keep("shared", model)
    model.write_bytes(scaled((1, 2, 3)))
    with pytest.raises(UserError, match="another model has become the baseline of this name"):
        store.keep("shared", model, HERE)
    assert store.find("shared").digest == kept.digest
    assert len(list((store.folder / "objects").iterdir())) == 1


def test_a_claim_of_one_kind_keeps_what_the_other_kind_knows(store, model):
    store.keep("shared", model, environment=HERE)
    store.keep("shared", model, data="d" * 64)
    store.keep("shared", model, environment=HERE)
    found = store.find("shared")
    assert (found.environment, found.data) == (HERE, "d" * 64)


def test_each_file_has_a_name_of_its_own(tmp_path):
    files = [tmp_path / "a" / "m.onnx", tmp_path / "b" / "m.onnx", tmp_path.parent / "m.onnx"]
    claimed = {}
    names = [default_name("test_a: latency", str(file), tmp_path, claimed) for file in files]
    assert names == [f"test_a: latency of {file}" for file in ("a/m.onnx", "b/m.onnx", "m.onnx")]
    assert default_name("test_a: latency", files[1], tmp_path, claimed) == names[1]


def test_files_that_only_a_folder_elsewhere_tells_apart_need_names(tmp_path):
    root, claimed = tmp_path / "root", {}
    default_name("test_a: latency", tmp_path / "a" / "m.onnx", root, claimed)
    with pytest.raises(UserError, match="two models of this test would have the same baseline"):
        default_name("test_a: latency", tmp_path / "b" / "m.onnx", root, claimed)
    assert default_name("test_a: latency", tmp_path / "a" / "m.onnx", root, {})


def test_what_somebody_else_put_beside_the_models_stays(store, model, scaled):
    store.keep("test_a", model, HERE)
    (store.folder / "objects" / ".gitattributes").write_text("* -text")
    model.write_bytes(scaled((1, 2, 3)))
    Baselines(store.folder).keep("test_a", model, HERE)
    assert (store.folder / "objects" / ".gitattributes").is_file()
    assert len(list((store.folder / "objects").iterdir())) == 2


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
