"""The verb export: a torch model or a recipe's in, an ONNX file out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from deploypipe.core.errors import UserError
from deploypipe.core.files import digest_tree
from deploypipe.graph.files import load
from deploypipe.runtime import TARGETS
from deploypipe.verbs import (
    Settings,
    export_model,
)

BARE = Settings(target={"cpu": {"threads": 1}})


def test_export_with_random_samples_of_a_shape(net_file, tmp_path):
    out = tmp_path / "net.onnx"
    before = digest_tree(net_file.parent)
    found = export_model(f"{net_file}:net", out, BARE, shapes={"image": [3, 8, 8]})
    assert digest_tree(net_file.parent) == before
    assert found["bytes"] == out.stat().st_size
    assert max(found["parity"].values()) < 1e-4
    assert [value.name for value in load(out).graph.inputs] == ["image"]
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_export_needs_samples_or_a_shape(net_file, tmp_path):
    with pytest.raises(UserError, match="export: the shape of the input is not known"):
        export_model(f"{net_file}:net", tmp_path / "o.onnx", BARE)


def test_an_export_may_not_go_over_what_it_is_made_from(net_file, tiny, tmp_path):
    code, weights = tmp_path / "net.py", tmp_path / "w.safetensors"
    code.write_text(net_file.read_text())
    weights.write_bytes(b"weights")
    recipe = tiny.file
    before = digest_tree(tmp_path)
    for source, out in ((f"{code}:net", code), (f"{code}:net", weights), (str(recipe), recipe)):
        with pytest.raises(UserError, match="the output is the input"):
            export_model(source, out, BARE, weights=weights, shapes={"image": [3, 8, 8]})
    assert digest_tree(tmp_path) == before


def test_export_refuses_shapes_that_do_not_fit(net_file, tmp_path):
    with pytest.raises(UserError, match="the model cannot take the samples"):
        export_model(f"{net_file}:net", tmp_path / "o.onnx", BARE, shapes={"image": [9]})


def test_export_of_a_recipe_for_an_onnx_file_is_refused(tiny, tmp_path):
    with pytest.raises(UserError, match="the recipe's model is an ONNX file already"):
        export_model(str(tiny.file), tmp_path / "o.onnx", BARE)


def exported(net_file, net_samples, folder, steps):
    recipe = {
        "name": "net",
        "model": f"{net_file}:net",
        "data": {"source": f"npz:{net_samples}", "split": {"validation": 20}},
        "target": {"cpu": {"threads": 2}},
        "steps": steps,
    }
    file = folder / "recipe.yaml"
    file.write_text(json.dumps(recipe))
    return export_model(str(file), folder / "net.onnx", BARE)


def test_the_steps_that_an_export_of_a_recipe_does_not_run_are_told(
    net_file, net_samples, tmp_path, monkeypatch
):
    opened = []
    cpu = TARGETS.get("cpu")
    plain = cpu.open
    monkeypatch.setattr(cpu, "open", lambda *a, **k: opened.append(a[0]) or plain(*a, **k))
    steps = [{"train": {"epochs": 1}}, "prune", "export", "optimize"]
    found = exported(net_file, net_samples, tmp_path, steps)
    told = "not run: the recipe's train, prune; this is the model as it came"
    assert found["changes"][-1] == told
    assert {target.threads for target in opened} == {2}


def test_an_export_of_a_recipe_without_training_needs_no_word(net_file, net_samples, tmp_path):
    (change,) = exported(net_file, net_samples, tmp_path, ["export"])["changes"]
    assert change.startswith("answers as torch does")


def test_random_samples_lie_there_as_long_as_they_are_needed(net_file, tmp_path, monkeypatch):
    from deploypipe import verbs

    seen, written = [], []
    plain, savez = verbs._one_stage, np.savez

    def one_stage(stage, source, out, data, settings):
        seen.append(data.split("validation").source.file.is_file())
        return plain(stage, source, out, data, settings)

    monkeypatch.setattr(verbs, "_one_stage", one_stage)
    monkeypatch.setattr(np, "savez", lambda *a, **k: written.append(list(k)) or savez(*a, **k))
    export_model(f"{net_file}:net", tmp_path / "o.onnx", BARE, shapes={"image": [3, 8, 8]})
    assert seen == [True]
    assert written == [["image"]]
