"""The verbs on files: each does its work, and touches no input."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from deploypipe.bundle.verify import read_manifest
from deploypipe.core.errors import UserError
from deploypipe.core.files import digest_tree
from deploypipe.core.progress import Silent
from deploypipe.data.recipe import SHARED
from deploypipe.graph import PASSES
from deploypipe.graph.files import load
from deploypipe.report.schema import read_report
from deploypipe.verbs import (
    Settings,
    inspect_model,
    optimize_model,
    pack_model,
    quantize_model,
    validate_models,
    verify_bundle,
)

CPU = {"cpu": {"threads": 1}}


BARE = Settings(target=CPU)


@pytest.mark.parametrize("samples", [True, False])
def test_optimize_writes_a_smaller_file(tiny, given, tmp_path, samples):
    out = tmp_path / "out" / "small.onnx"
    found = optimize_model(tiny.model, out, given if samples else BARE)
    assert found["output"] == str(out)
    assert found["bytes"] == {"before": tiny.model.stat().st_size, "after": out.stat().st_size}
    assert found["changes"]
    assert "Identity" not in {node.op_type for node in load(out).graph}
    json.dumps(found)


def test_optimize_runs_only_the_passes_that_are_named(tiny, given, tmp_path):
    optimize_model(tiny.model, tmp_path / "o.onnx", given, ["drop-unused"])
    assert "Identity" in {node.op_type for node in load(tmp_path / "o.onnx").graph}


def test_quantize_gives_int8(tiny, given, tmp_path):
    out = tmp_path / "q.onnx"
    found = quantize_model(tiny.model, out, given, {"calibrator": "minmax", "decide": False})
    assert "QuantizeLinear" in {node.op_type for node in load(out).graph}
    assert found["changes"]
    json.dumps(found)


@pytest.mark.parametrize("method", ["half", "weight-only", {"half": {"dtype": "bfloat16"}}])
def test_quantize_by_a_method_that_needs_no_samples(wide, tmp_path, method):
    out = tmp_path / "small.onnx"
    found = quantize_model(wide.model, out, BARE, {"method": method})
    assert found["bytes"]["after"] == out.stat().st_size < found["bytes"]["before"]
    assert found["notes"]["method"]
    with BARE.open_target().open(out) as session:
        assert session.inputs
    json.dumps(found)


@pytest.mark.parametrize("method", ["half", "weight-only", "dynamic"])
def test_what_a_method_makes_is_validated_and_bundled(wide, tmp_path, method):
    out, settings = tmp_path / "small.onnx", Settings(f"npz:{wide.samples}", target=CPU)
    quantize_model(wide.model, out, BARE, {"method": method})
    short = {"rounds": 3, "seconds": 0.1}
    found = validate_models(wide.model, out, settings, {"accuracy_drop": 5}, short)
    assert found["accuracy"]["candidate"] > 0.9
    pack_model(out, tmp_path / "bundle", settings)
    assert verify_bundle(tmp_path / "bundle", BARE)["checked"]


@pytest.mark.parametrize("verb", [optimize_model, quantize_model])
def test_the_output_may_not_be_the_input(tiny, given, verb):
    same = tiny.folder / ".." / tiny.folder.name / "model.onnx"
    with pytest.raises(UserError, match="the output is the input. Give another path with -o"):
        verb(tiny.model, same, given)


def test_the_output_may_not_be_the_input_s_data(tmp_path, tiny):
    import onnx

    big = tmp_path / "big.onnx"
    where = {"location": "big.bin", "size_threshold": 0}
    onnx.save(onnx.load(tiny.model), big, save_as_external_data=True, **where)
    before = digest_tree(tmp_path)
    with pytest.raises(UserError, match="the output is the input"):
        optimize_model(big, tmp_path / "big.bin", BARE)
    assert digest_tree(tmp_path) == before
    found = optimize_model(big, tmp_path / "other.onnx", BARE)
    whole = big.stat().st_size + (tmp_path / "big.bin").stat().st_size
    assert found["bytes"]["before"] == whole == inspect_model(big, BARE)["bytes"]


def test_quantizing_needs_samples(tiny, tmp_path):
    with pytest.raises(UserError, match="--data: samples are needed. Give source:argument"):
        quantize_model(tiny.model, tmp_path / "q.onnx", BARE)
    assert not (tmp_path / "q.onnx").exists()


def test_validate_gives_the_sections_of_a_report(tiny, given):
    found = validate_models(
        tiny.model, tiny.model, given, {"accuracy_drop": 1}, {"rounds": 3, "seconds": 0.1}
    )
    assert read_report({"version": 1, "name": "two", **found}).verdict
    assert found["accuracy"]["drop_points"] == 0
    assert [row["label"] for row in found["ledger"]] == ["reference", "candidate"]


def test_validate_takes_a_candidate_that_lies_among_other_files_and_folders(tiny):
    (tiny.folder / "other").mkdir()
    (tiny.folder / "other" / "file").write_text("not ours")
    settings = Settings(f"npz:{tiny.samples}", target=CPU)
    found = validate_models(tiny.model, tiny.model, settings, {}, {"rounds": 3, "seconds": 0.1})
    assert found["verdict"]["outcome"] in ("PASS", "UNDECIDED")
    assert (tiny.folder / "other" / "file").read_text() == "not ours"


def test_validate_refuses_an_unknown_limit(tiny, given):
    with pytest.raises(UserError, match="--budget: unknown option 'sped', did you mean 'speedup'"):
        validate_models(tiny.model, tiny.model, given, {"sped": 2})


def test_inspect_tells_what_is_in_a_file(tiny, given):
    found = inspect_model(tiny.model, BARE)
    assert found["inputs"] == ["x: float32[N, 8]"]
    assert found["outputs"] == ["y: float32[N, 3]"]
    assert found["parameters"] == 8 * 6 + 6 * 6 + 6 * 3
    assert found["nodes"] == 6
    assert found["ops"]["MatMul"] == 3
    assert found["placement"]
    json.dumps(found)


def test_inspect_sees_dead_channels(wide):
    assert inspect_model(wide.model, BARE)["dead_channels"]["removable"]


def test_inspect_takes_a_model_with_several_free_dimensions(tmp_path):
    import onnx.parser

    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N,M] x) => (float[N,M] y) { y = Relu(x) }'
    )
    onnx.save(model, tmp_path / "m.onnx")
    assert inspect_model(tmp_path / "m.onnx", BARE)["inputs"] == ["x: float32[N, M]"]


@pytest.mark.parametrize("name", ["bundle", "bundle.tar"])
def test_a_packed_model_verifies(tiny, given, tmp_path, name):
    out = tmp_path / name
    assert pack_model(tiny.model, out, given, "mine") == {"output": str(out)}
    assert read_manifest(out).name == "mine"
    assert read_manifest(out).verdict is None
    assert len(verify_bundle(out, BARE)["checked"]) >= 2


def test_data_may_be_those_of_a_recipe(tiny, tmp_path):
    pack_model(tiny.model, tmp_path / "b", Settings(str(tiny.file), target=CPU))
    assert read_manifest(tmp_path / "b").golden.samples == 4


def test_a_limit_on_samples_is_kept(tiny):
    settings = Settings(f"npz:{tiny.samples}", samples=7)
    assert len(settings.need_data().split("validation")) == 7
    with pytest.raises(UserError):
        Settings(f"npz:{tiny.samples}", samples=10**6).need_data()


def test_a_limit_holds_for_the_split_of_a_recipe_that_is_used(tiny):
    settings = Settings(str(tiny.file), samples=60)
    assert len(settings.need_data().split("validation")) == 60
    with pytest.raises(UserError, match="60 samples were asked for, the calibration split has 50"):
        settings.need_data("calibration")
    few = Settings(str(tiny.file), samples=70, calibration=20)
    assert len(few.need_data("calibration").split("calibration")) == 20
    assert len(few.need_data().split("validation")) == 70


def test_a_recipe_s_split_is_what_a_quantizer_sees(tiny, tmp_path):
    settings = Settings(str(tiny.file), samples=20, target=CPU)
    assert quantize_model(tiny.model, tmp_path / "q.onnx", settings)["notes"]["samples"] == 20


PASS = """
from dataclasses import dataclass

from deploypipe.graph import GraphPass, Outcome


@dataclass(frozen=True)
class Nothing(GraphPass):
    def call(self, model):
        return Outcome(model, False, [], ["it did nothing"])
"""


def test_the_plug_ins_of_a_recipe_are_there(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(PASSES, "added", {})
    tiny.say("do_nothing.py", PASS)
    tiny.recipe["plugins"] = ["do_nothing.py"]
    settings = Settings(str(tiny.file), target=CPU)
    found = optimize_model(tiny.model, tmp_path / "o.onnx", settings, ["do-nothing"])
    assert "it did nothing" in found["refusals"]


def test_samples_that_calibrate_and_judge_are_told(tiny, given, tmp_path):
    said = []
    progress = Silent()
    progress.say = said.append
    given = replace(given, progress=progress)
    made = quantize_model(tiny.model, tmp_path / "q.onnx", given)
    assert made["data"] == [SHARED]
    found = validate_models(tiny.model, tiny.model, given, {}, {"rounds": 3, "seconds": 0.1})
    assert found["data"]["notes"] == [SHARED]
    assert f"data: {SHARED}" in said


@pytest.mark.parametrize("of_recipe", [True, False])
def test_samples_that_are_kept_apart_need_no_word(of_recipe, tiny, tmp_path):
    spec = str(tiny.file) if of_recipe else f"npz:{tiny.samples}"
    settings = Settings(spec, target=CPU, calibration=40)
    made = quantize_model(tiny.model, tmp_path / "q.onnx", settings)
    assert made["data"] == []
    assert made["notes"]["samples"] == 40
    found = validate_models(tiny.model, tiny.model, settings, {}, {"rounds": 3, "seconds": 0.1})
    assert found["data"]["notes"] == []
    assert found["accuracy"]["samples"] == (100 if of_recipe else 160)


def test_validation_needs_labels_before_any_work(tiny, tmp_path):
    spec = tiny.save("bare.npz", x=np.zeros((9, 8), np.float32))
    with pytest.raises(UserError, match="data: the samples of validation have no labels"):
        validate_models(tiny.model, tmp_path / "none.onnx", Settings(spec))


def test_an_interrupted_verb_leaves_the_older_output(tiny, given, tmp_path, monkeypatch):
    out = tmp_path / "q.onnx"
    older = tiny.model.read_bytes()
    out.write_bytes(older)
    from deploypipe import verbs

    def fail(*rest):
        raise KeyboardInterrupt

    monkeypatch.setattr(verbs.shutil, "copyfile", fail)
    with pytest.raises(KeyboardInterrupt):
        quantize_model(tiny.model, out, given)
    assert out.read_bytes() == older
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["q.onnx"]


def test_equal_runs_give_equal_files(tiny, given, tmp_path):
    for name in ("a.onnx", "b.onnx"):
        quantize_model(tiny.model, tmp_path / name, given)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
