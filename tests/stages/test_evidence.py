"""What optimize removes, it proves on the target, and the proof is kept."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from deploypipe.core.errors import UserError
from deploypipe.graph.channels.proof import permutation, real_weights
from deploypipe.runtime.targets.cpu import Cpu
from deploypipe.stages import optimize
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


def test_what_the_target_refutes_is_not_written(masked, monkeypatch) -> None:
    from dataclasses import replace

    real = optimize.as_deployed

    def refuted(*given):
        return replace(real(*given), ok=False)

    monkeypatch.setattr(optimize, "as_deployed", refuted)
    with pytest.raises(UserError, match="removing dead channels changed the outputs"):
        Optimize().apply(masked, None, TARGET)


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
