"""Two files layer by layer, from Python and from the command line."""

from __future__ import annotations

import json

import pytest

from deploypipe.core.errors import UserError
from deploypipe.layers import compare_layer_files, read_names
from deploypipe.verbs import Settings, quantize_model

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
    assert "dB" in said.out
    names = tmp_path / "names.json"
    names.write_text('{"a": "a"}')
    rows = call(*words, "--names", names, "--json").json["layers"]["rows"]
    assert [row["name"] for row in rows] == ["a"]


@pytest.mark.parametrize("text", ["[]", '{"a": 1}', "{"])
def test_a_map_of_names_that_is_none_is_told(tmp_path, text):
    path = tmp_path / "names.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"names\.json"):
        read_names(path)
