"""What optimize removes, it proves on the target, and the proof is kept."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from deploypipe.core.errors import IntegrityError, UserError
from deploypipe.core.files import sha256_file
from deploypipe.graph.channels.proof import permutation, real_weights
from deploypipe.graph.files import load, save, to_bytes, weight_bytes
from deploypipe.runtime.targets.cpu import Cpu
from deploypipe.stages import optimize
from deploypipe.stages._removals import in_short
from deploypipe.stages.optimize import Optimize
from deploypipe.verbs import Settings, optimize_model, verify_channels

TARGET = Cpu(threads=1)


@pytest.fixture
def masked(tmp_path):
    """Conv, Relu, Conv; four of eight channels between them are zero."""
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[1,3,6,6] x) => (float[1,4,6,6] y) '
        "{ c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) y = Conv<pads=[1,1,1,1]>(r, v) }"
    )
    rng = np.random.default_rng(0)
    w, b = rng.normal(size=(8, 3, 3, 3)), rng.normal(size=8)
    w[[1, 4, 5, 6]] = 0
    b[[1, 4, 5, 6]] = 0
    arrays = {"w": w, "b": b, "v": rng.normal(size=(4, 8, 3, 3))}
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    onnx.save(model, tmp_path / "masked.onnx")
    return tmp_path / "masked.onnx"


def test_the_proof_as_deployed_is_part_of_the_evidence(masked) -> None:
    (evidence,) = Optimize().apply(masked, None, TARGET).evidence
    proof = evidence.certificate["proof"]
    assert len(proof) >= 3
    assert {permutation.NAME, real_weights.NAME} <= {one["test"] for one in proof}
    assert evidence.certificate["removed"]


def test_it_runs_at_two_sizes_one_of_them_odd_and_says_which(masked) -> None:
    (evidence,) = Optimize().apply(masked, None, TARGET).evidence
    runs = [one for one in evidence.certificate["proof"] if one["test"] == permutation.NAME]
    assert [one["error"] is not None for one in runs] == [True, False]
    assert runs[0]["inputs"] == {"x": [1, 3, 6, 6]}
    assert runs[1]["result"].startswith("not applicable: no second size: the model fixes those")


def test_what_the_target_refutes_stays_in_the_model_and_is_told(masked, monkeypatch) -> None:
    real = optimize.deployed

    def refuted(*given):
        first, second = real(*given)
        return [replace(first, ok=False), second]

    monkeypatch.setattr(optimize, "deployed", refuted)
    outcome = Optimize().apply(masked, None, TARGET)
    assert not outcome.evidence
    assert "w" in outcome.model.graph.initializers or len(outcome.model.graph.initializers) == 3
    assert any("please report" in refusal for refusal in outcome.refusals)
    assert outcome.refusals.count("all dead channels stay") == 0


def test_the_verb_writes_certificates_that_verify(masked, tmp_path) -> None:
    settings = Settings(target={"cpu": {"threads": 1}})
    out = tmp_path / "thin.onnx"
    made = optimize_model(masked, out, settings, certificate=tmp_path / "proof")
    (folder,) = made["certificates"]
    names = ("before.onnx", "after.onnx", "certificate.json")
    checked = verify_channels(*(tmp_path / "proof" / "1" / name for name in names))
    assert folder == str(tmp_path / "proof" / "1")
    assert checked["claims"] > 0
    json.dumps(checked)


@pytest.fixture
def small_limit(monkeypatch):
    """As if protobuf ended at 1,000 bytes: what is larger can only be opened from files."""
    monkeypatch.setattr("deploypipe.graph.files.LARGEST_FILE", 1000)
    monkeypatch.setattr("deploypipe.graph.files.save.__defaults__", (1000,))


def test_a_model_too_large_for_one_file_is_proven_and_written_beside_its_data(
    masked, tmp_path, small_limit
) -> None:
    save(load(masked), tmp_path / "in" / "large.onnx")
    given = sorted(os.listdir(tmp_path / "in"))
    assert given == ["large.onnx", "large.onnx.data"]
    digests = [sha256_file(tmp_path / "in" / name) for name in given]
    with pytest.raises(UserError, match="too large for one ONNX file"):
        to_bytes(load(tmp_path / "in" / "large.onnx"))
    settings = Settings(target={"cpu": {"threads": 1}})
    out, proof = tmp_path / "out" / "thin.onnx", tmp_path / "proof"
    made = optimize_model(tmp_path / "in" / "large.onnx", out, settings, certificate=proof)
    assert any("channels of computed tensors went" in line for line in made["changes"])
    assert sorted(os.listdir(tmp_path / "in")) == given
    assert [sha256_file(tmp_path / "in" / name) for name in given] == digests
    assert sorted(os.listdir(out.parent)) == ["thin.onnx", "thin.onnx.data"]
    assert weight_bytes(load(out)) < weight_bytes(load(masked))
    names = ("before.onnx", "after.onnx", "certificate.json")
    assert verify_channels(*(proof / "1" / name for name in names))["claims"]


def test_open_sizes_need_no_samples(masked, tmp_path) -> None:
    model = onnx.load(masked)
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in ((2, "H"), (3, "W")):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    onnx.save(model, tmp_path / "open.onnx")
    (evidence,) = Optimize().apply(tmp_path / "open.onnx", None, TARGET).evidence
    runs = [one for one in evidence.certificate["proof"] if one["test"] == permutation.NAME]
    assert [one["inputs"]["x"][2:] for one in runs] == [[33, 47], [64, 64]]


def test_what_the_report_tells_of_removals_stays_small(masked) -> None:
    (evidence,) = Optimize().apply(masked, None, TARGET).evidence
    (told,) = in_short([evidence.certificate])
    assert told["left"] == 0
    assert told["removed"][0]["is"]
    many = dict(evidence.certificate)
    many["removed"] = [dict(one, tensor=f"t{k}") for k in range(3000) for one in many["removed"]]
    shorter = in_short([many, many])
    assert len(json.dumps(shorter)) < 100_000
    assert all(one["removed"] and one["left"] > 1000 for one in shorter)


def test_a_weight_with_two_readers_is_certified(tmp_path) -> None:
    """Its readers lose different inputs, so there are two weights afterwards."""
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[1,8,6,6] x) => (float[1,4,6,6] y) '
        "{ a = Conv(x, w) r = Relu(a) c = Conv(r, w) s = Relu(c) y = Conv(s, v) }"
    )
    rng = np.random.default_rng(0)
    w = rng.normal(size=(8, 8, 1, 1))
    w[1:5] = 0
    for name, array in {"w": w, "v": rng.normal(size=(4, 8, 1, 1))}.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    onnx.save(model, tmp_path / "shared.onnx")
    settings = Settings(target={"cpu": {"threads": 1}})
    files = tmp_path / "shared.onnx", tmp_path / "thin.onnx"
    (folder,) = optimize_model(*files, settings, certificate=tmp_path)["certificates"]
    names = ("before.onnx", "after.onnx", "certificate.json")
    paths = [Path(folder) / name for name in names]
    assert len(load(paths[1]).graph.initializers) == 3
    assert verify_channels(*paths)["claims"] >= 16
    changed = onnx.load(paths[1])
    array = numpy_helper.to_array(changed.graph.initializer[-1]).copy()
    array.flat[0] += 1
    changed.graph.initializer[-1].raw_data = array.tobytes()
    onnx.save(changed, paths[1])
    with pytest.raises(IntegrityError):
        verify_channels(*paths)
