"""What is here, and what would go wrong."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from deploypipe import doctor
from deploypipe.core.errors import EnvironmentLacks, UserError
from deploypipe.doctor import examine, examine_model
from deploypipe.runtime.targets.cpu import Cpu


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


SIGNED = """<ir_version: 8, opset_import: ["": 17]> g (float[N,1,2,2] x) => (float[N,1,2,2] y)
  <float s = {0.05}, int8 z = {3}, int8[1,1,1,1] v = {100}, float t = {0.01}>
  { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear(v, t)
    [conv] c = Conv(d, w) p = QuantizeLinear(c, s, z) o = DequantizeLinear(p, s, z)
    e = Conv(o, w) f = QuantizeLinear(e, s, z) h = DequantizeLinear(f, s, z) y = Add(h, o) }"""


def test_a_quantized_model_is_examined_and_mended(tmp_path):
    file, out = tmp_path / "int8.onnx", tmp_path / "mended.onnx"
    onnx.save(onnx.parser.parse_model(SIGNED), file)
    before = file.read_bytes()
    found = examine_model(file, Cpu(threads=1), out)
    assert "2 nodes with 8-bit weights run in float" in found["answer"]
    assert {one["cause"] for one in found["findings"]} == {"SIGNED_FAN_OUT"}
    assert found["repaired"]["answer"] == "all 2 nodes with 8-bit weights run in 8 bits"
    assert file.read_bytes() == before
    onnx.checker.check_model(onnx.load(out))
    json.dumps(found)
    assert found["repaired"]["checked"].startswith("1 random inputs, ")
    with pytest.raises(UserError, match="the output is the input"):
        examine_model(file, Cpu(threads=1), file)


def test_a_mended_model_that_answers_otherwise_is_not_written(tmp_path, monkeypatch):
    file, out = tmp_path / "int8.onnx", tmp_path / "mended.onnx"
    onnx.save(onnx.parser.parse_model(SIGNED), file)

    def spoil(model, plain=doctor.mend):
        done = plain(model)
        done.model.graph.initializers["t"].const_value = ir.tensor(np.float32(0.02), name="t")
        return done

    monkeypatch.setattr(doctor, "mend", spoil)
    with pytest.raises(UserError, match="dB of what the model answers on random inputs"):
        examine_model(file, Cpu(threads=1), out)
    assert not out.exists()
