"""Two files layer by layer, from Python and from the command line."""

from __future__ import annotations

import json

import pytest

from deploypipe.core.errors import UserError
from deploypipe.layers import compare_layer_files, read_names
from deploypipe.verbs import Settings, export_model, quantize_model

CPU = {"cpu": {"threads": 1}}


@pytest.fixture
def given(tiny):
    return Settings(f"npz:{tiny.samples}", target=CPU)


@pytest.fixture
def quantized(tiny, given, tmp_path):
    out = tmp_path / "int8.onnx"
    quantize_model(tiny.model, out, given, {"decide": False})
    return out


def test_a_quantized_file_is_compared_layer_by_layer(tiny, quantized, given):
    found = compare_layer_files(tiny.model, quantized, given)
    rows = {row["name"]: row for row in found["layers"]["rows"]}
    assert {"a", "b", "c", "d", "y"} <= set(rows)
    assert all(row["sqnr_db"] is None or row["sqnr_db"] > 15 for row in rows.values())
    assert found["restore"]["after"] >= found["restore"]["before"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_without_data_inputs_are_random_and_nearness_counts(tiny, quantized):
    found = compare_layer_files(tiny.model, quantized, Settings(target=CPU))
    assert found["layers"]["samples"] == 8
    assert found["restore"]["enough"]
    assert 0 < len(found["restore"]["units"]) <= 3
    assert found["restore"]["after"] > found["restore"]["before"]


def test_a_float_file_has_nothing_to_restore(tiny, given):
    assert "restore" not in compare_layer_files(tiny.model, tiny.model, given)


def test_the_command_line_shows_layers(tiny, quantized, call, tmp_path):
    words = ["validate", tiny.model, quantized, "--layers", "--data", f"npz:{tiny.samples}"]
    said = call(*words)
    assert said.code == 0
    assert "SQNR" in said.out
    assert "6 of the 6 tensors of the reference compared" in said.out
    assert "dB" in said.out
    names = tmp_path / "names.json"
    names.write_text('{"a": "a"}')
    rows = call(*words, "--names", names, "--json").json["layers"]["rows"]
    assert [row["name"] for row in rows] == ["a"]
    assert "So few say little of the rest" in call(*words, "--names", names).out


def test_layers_of_other_shapes_are_counted_and_come_last(wide, call, tmp_path):
    from deploypipe.verbs import optimize_model

    settings = Settings(f"npz:{wide.samples}", target=CPU)
    thin = tmp_path / "thin.onnx"
    optimize_model(wide.model, thin, settings)
    rows = compare_layer_files(wide.model, thin, settings)["layers"]["rows"]
    fits = [row["fits"] for row in rows]
    assert fits == sorted(fits, reverse=True) and 0 < sum(fits) < len(fits)
    assert all(row["sqnr_db"] is None and not row["equal"] for row in rows if not row["fits"])
    said = call("validate", wide.model, thin, "--layers", "--data", f"npz:{wide.samples}")
    assert f"{fits.count(False)} more have other shapes" in " ".join(said.out.split())


@pytest.mark.parametrize("text", ["[]", '{"a": 1}', "{"])
def test_a_map_of_names_that_is_none_is_told(tmp_path, text):
    path = tmp_path / "names.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"names\.json"):
        read_names(path)


TORCH = """
import torch
from torch import nn


def net(scale=1.0):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    module[2].weight.data *= scale
    return module


def other():
    return net(scale=3.0)
"""


def test_a_torch_module_is_compared_with_its_export(call, tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "net.py").write_text(TORCH)
    place, out = tmp_path / "net.py", tmp_path / "net.onnx"
    export_model(f"{place}:net", out, Settings(target=CPU), shapes={"x": [6]})
    rows = compare_layer_files(f"{place}:net", out, Settings(target=CPU))["layers"]["rows"]
    assert {row["name"] for row in rows} == {"0", "1", "2"}
    assert all(row["equal"] or row["sqnr_db"] > 100 for row in rows)
    said = call("validate", f"{place}:other", out, "--layers")
    assert said.code == 0
    assert "First cliff: 2 (Gemm)" in said.out
    with pytest.raises(UserError, match="net.py has no function 'nett', did you mean 'net'"):
        compare_layer_files(f"{place}:nett", out, Settings(target=CPU))


def test_weights_of_a_torch_module_come_from_a_file(call, tmp_path):
    torch = pytest.importorskip("torch")
    (tmp_path / "net.py").write_text(TORCH)
    place, out, weights = tmp_path / "net.py", tmp_path / "net.onnx", tmp_path / "w.pt"
    export_model(f"{place}:other", out, Settings(target=CPU), shapes={"x": [6]})
    namespace = {}
    exec(TORCH, namespace)
    torch.save(namespace["other"]().state_dict(), weights)
    words = ["validate", f"{place}:net", out, "--layers"]
    assert "First cliff: 2 (Gemm)" in call(*words).out
    assert "No layer loses" in call(*words, "--weights", weights).out
    assert "--weights: no such checkpoint" in call(*words, "--weights", tmp_path / "x.pt").err


def test_an_option_of_layers_alone_is_not_passed_over(call, tiny, tmp_path):
    words = ["validate", tiny.model, tiny.model]
    for option in ("--weights", "--names"):
        said = call(*words, option, tmp_path / "x")
        assert (said.code, said.err) == (
            2,
            f"deploypipe: {option}: only --layers takes it. Add --layers.\n",
        )
    said = call(*words, "--layers", "--budget", "speedup=1")
    assert said.code == 2 and "--budget: layers are compared without a verdict" in said.err
    said = call(*words, "--layers", "--weights", tmp_path / "x")
    assert said.code == 2 and "--weights: an ONNX file has its own weights" in said.err


def test_samples_that_a_torch_module_cannot_take_are_told(call, tiny, tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "net.py").write_text(TORCH)
    names = tmp_path / "names.json"
    names.write_text('{"0": "a"}')
    words = ["validate", f"{tmp_path / 'net.py'}:net", tiny.model]
    said = call(*words, "--layers", "--names", names)
    assert said.code == 2
    assert "REFERENCE: the model cannot take the samples (x float32" in said.err
    said = call(*words, "--data", f"npz:{tiny.samples}")
    assert said.code == 2
    assert "no such model file. Export it first: deploypipe export" in said.err


def test_a_file_without_the_exporter_s_notes_needs_a_map_of_names(tiny, tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "net.py").write_text(TORCH)
    with pytest.raises(UserError, match=r"does not say which .* a map: --names FILE.json"):
        compare_layer_files(f"{tmp_path / 'net.py'}:net", tiny.model, Settings(target=CPU))
