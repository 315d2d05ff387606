"""Optimize, quantize, validate and bundle on the tiny network's export."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.bundle.verify import verify
from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.errors import UserError
from deploypipe.core.files import digest_tree
from deploypipe.data import open_samples
from deploypipe.graph import PASSES, GraphPass, Outcome
from deploypipe.graph.files import load, save
from deploypipe.report.collect import SECTIONS, Told, collect
from deploypipe.report.schema import read_report
from deploypipe.runtime import Target
from deploypipe.runtime.targets.cpu import Cpu
from deploypipe.runtime.targets.tensorrt import Tensorrt
from deploypipe.stages import STAGES
from deploypipe.stages._onnx_source import OnnxSource
from deploypipe.stages.bundle import Bundle
from deploypipe.stages.optimize import Optimize
from deploypipe.stages.quantize import Quantize
from deploypipe.stages.validate import Validate

QUICK = Validate(rounds=3, seconds=0.1)


@dataclass(frozen=True)
class Halve(GraphPass):
    """Wrong on purpose: halves every weight of a linear layer, once."""

    def call(self, model: ir.Model) -> Outcome:
        for value in model.graph.initializers.values():
            array = value.const_value.numpy()
            if array.ndim == 2 and not value.name.endswith("half"):
                value.const_value = ir.tensor(array / 2)
                value.name += ".half"
                return Outcome(model, True, ["halved"])
        return Outcome(model, False)


@pytest.fixture
def halve():
    PASSES.add(Halve)
    yield Halve()
    del PASSES.added["halve"]


@pytest.fixture(scope="module")
def optimized(net_onnx, net_desk, tmp_path_factory):
    return Optimize().run(net_onnx, net_desk(tmp_path_factory.mktemp("optimized") / "artifact"))


@pytest.fixture(scope="module")
def quantized(optimized, net_desk, tmp_path_factory):
    return Quantize(decide=False).run(
        optimized, net_desk(tmp_path_factory.mktemp("quantized") / "artifact")
    )


@pytest.fixture(scope="module")
def validated(quantized, net_onnx, net_desk, tmp_path_factory):
    out = tmp_path_factory.mktemp("validated") / "artifact"
    desk = net_desk(out, reference=net_onnx, budget={"accuracy_drop": 50, "shrink": 0.5})
    return QUICK.run(quantized, desk)


def answers(artifact, desk):
    feeds = desk.data.split("validation").batch(range(8)).inputs
    with desk.target.open(artifact.path) as session:
        return session(feeds)["logits"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"optimize": {"passes": ["drop-dead-chanels"]}},
            "s.optimize.passes[0]: unknown pass 'drop-dead-chanels', "
            "did you mean 'drop-dead-channels'?",
        ),
        (
            {"optimize": {"also": [{"drop-dead-channels": {"round_to": -1}}]}},
            "s.optimize.also[0].drop-dead-channels: round_to must not be negative, got -1",
        ),
        ({"quantize": {"samples": 0}}, "s.quantize: samples and batch must be at least 1"),
        (
            {"quantize": {"corrections": ["bais"]}},
            "s.quantize.corrections[0]: unknown correction 'bais'",
        ),
        ({"quantize": {"calibrator": 3}}, "s.quantize.calibrator: expected the name of a calib"),
        ({"validate": {"rounds": 2}}, "s.validate: batch must be at least 1, rounds at least 3"),
        ({"validate": {"samples": 0}}, "s.validate: samples must be at least 1, got 0"),
        ({"optimize": {"tolerance": -1}}, "s.optimize: tolerance must not be negative, got -1"),
        (
            {"optimize": {"also": [{"space-to-depth": {"max_channels": 0}}]}},
            "s.optimize.also[0].space-to-depth: max_channels and min_size must be at least 1",
        ),
        ({"validate": {"metric": "top9"}}, "s.validate.metric: unknown metric 'top9'"),
        ({"bundle": {"form": "zip"}}, "s.bundle.form: expected one of directory, tar, got 'zip'"),
        ({"bundle": {"goldens": 0}}, "s.bundle: goldens must be at least 1, got 0"),
    ],
)
def test_options_that_cannot_be_are_told_with_their_path(spec, message):
    with pytest.raises(UserError) as caught:
        STAGES.build(spec, "s")
    assert str(caught.value).startswith(message)


def test_an_onnx_file_is_taken_in_as_it_is(net_onnx, net_desk, tmp_path):
    given = tmp_path / "mine.onnx"
    shutil.copyfile(net_onnx.path, given)
    source = OnnxSource(str(given))
    desk = net_desk(tmp_path / "artifact")
    made = source.run(Artifact(Kind.TORCH, Path(), "nothing"), desk)
    np.testing.assert_array_equal(answers(made, desk), answers(net_onnx, desk))
    feeds = desk.data.split("validation").batch([0]).inputs
    assert source.answer_shape(feeds, desk.target) == (1, 4)


def test_other_weights_beside_an_equal_file_are_another_source(net_onnx, tmp_path):
    given = tmp_path / "mine.onnx"
    save(load(net_onnx.path), given, largest_file=10)
    before, model = OnnxSource(str(given)), given.read_bytes()
    weights = given.with_name("mine.onnx.data").read_bytes()
    given.with_name("mine.onnx.data").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert given.read_bytes() == model
    assert OnnxSource(str(given)) != before


def test_weights_beside_a_model_are_part_of_what_is_made(net_onnx, net_desk, tmp_path, monkeypatch):
    monkeypatch.setattr(save, "__defaults__", (10,))
    desk = net_desk(tmp_path / "out")
    for stage in (OnnxSource(str(net_onnx.path)), Optimize(), Quantize()):
        made = stage.run(net_onnx, desk)
        (data,) = made.data
        assert data.parent == desk.out and data.name.endswith(".data")
        assert made.bytes == made.path.stat().st_size + data.stat().st_size


def test_optimizing_changes_no_answer_and_is_told(optimized, net_onnx, net_desk, tmp_path):
    desk = net_desk(tmp_path)
    np.testing.assert_allclose(answers(optimized, desk), answers(net_onnx, desk), atol=1e-4)
    ops = [{node.op_type for node in load(one.path).graph} for one in (net_onnx, optimized)]
    assert "GlobalAveragePool" in ops[1] - ops[0]
    assert optimized.notes["changes"]


def test_a_pass_that_changes_the_outputs_is_named(halve, net_onnx, net_desk, tmp_path):
    before = digest_tree(net_onnx.path.parent)
    stage = Optimize(also=(halve,))
    with pytest.raises(UserError) as caught:
        stage.run(net_onnx, net_desk(tmp_path))
    assert "the first pass to change them is 'halve'" in str(caught.value)
    assert "Leave it out of optimize.passes" in str(caught.value)
    assert not list(tmp_path.iterdir())
    assert digest_tree(net_onnx.path.parent) == before


def test_more_calibration_samples_than_there_are_is_told_before_any_work(net_data):
    with pytest.raises(UserError) as caught:
        Quantize(samples=25).work(net_data)
    assert str(caught.value) == (
        "quantize.samples: 25 samples were asked for, the calibration split has 24. "
        "Enlarge data.split.calibration, or ask for fewer."
    )
    assert Quantize(samples=24).work(net_data).samples == {"calibration": 24}


def test_more_validation_samples_than_there_are_is_told_before_any_work(net_data):
    with pytest.raises(UserError, match="validate.samples: 41 samples were asked for"):
        Validate(samples=41).work(net_data)


@pytest.mark.parametrize("seconds", [0.0, float("inf"), float("nan")])
def test_a_time_that_is_none_or_never_ends_is_refused(seconds):
    with pytest.raises(ValueError, match="seconds positive"):
        Validate(seconds=seconds)


def test_samples_without_labels_are_told_before_any_work(tmp_path):
    np.savez(tmp_path / "bare.npz", image=np.zeros((9, 3, 8, 8), np.float32))
    data = open_samples(f"npz:{tmp_path / 'bare.npz'}")
    with pytest.raises(UserError, match="data: the samples of validation have no labels, and acc"):
        Validate().work(data)
    assert Quantize().work(data).samples == {"calibration": 9}


def test_quantizing_makes_int8_and_answers_nearly_alike(quantized, optimized, net_desk, tmp_path):
    assert quantized.bytes < optimized.bytes * 1.2
    ops = {node.op_type for node in load(quantized.path).graph}
    assert "QuantizeLinear" in ops
    desk = net_desk(tmp_path)
    wide = np.abs(answers(optimized, desk)).max()
    assert np.abs(answers(quantized, desk) - answers(optimized, desk)).max() < 0.2 * wide
    assert quantized.notes["changes"]
    assert isinstance(quantized.notes["refusals"], list)


def test_what_is_not_faster_in_8_bits_ships_as_float(optimized, net_desk, tmp_path, monkeypatch):
    """The times decide, and every unit that stays float says why."""
    from deploypipe.stages import quantize as stage

    def ran(seconds):
        monkeypatch.setattr(
            stage, "race", lambda *_: lambda models, _: dict(zip(models, seconds, strict=False))
        )
        desk = net_desk(tmp_path / str(len(seconds)))
        desk.out.mkdir(parents=True, exist_ok=True)
        return Quantize().run(optimized, desk)

    slow = ran([1.0, 1.1, 1.2, 1.3, 1.4])
    assert slow.notes["decision"]["winner"] == "float"
    assert "the model stays float: in 8 bits it takes" in slow.notes["refusals"][0]
    assert "QuantizeLinear" not in {node.op_type for node in load(slow.path).graph}
    fast = ran([1.0, 0.5, 0.9, 0.9, 0.9, 0.9])
    assert fast.notes["decision"]["winner"] == "all"
    assert "QuantizeLinear" in {node.op_type for node in load(fast.path).graph}


def test_validation_notes_every_section_of_the_report(validated):
    assert set(SECTIONS) <= set(validated.notes)
    labels = [row["label"] for row in validated.notes["ledger"]]
    assert labels == ["reference", "optimize", "quantize"]
    assert validated.notes["reference"]["label"] == "reference"
    assert validated.notes["candidate"]["label"] == "quantize"
    assert validated.notes["verdict"]["outcome"] in ("PASS", "FAIL", "UNDECIDED")
    names = [check["name"] for check in validated.notes["verdict"]["checks"]]
    assert len(names) >= 2
    assert sum(validated.notes["placement"].values()) == sum(validated.notes["kernels"].values())


def test_the_notes_make_a_report_that_fits_the_schema(validated, quantized, net_onnx):
    told = [
        Told(one.made_by, one, 1.0, f"2026-01-0{i}T00:00:00+00:00", {})
        for i, one in enumerate((net_onnx, quantized, validated), 1)
    ]
    report = collect(
        told,
        name="tiny",
        recipe={"name": "tiny"},
        data={"splits": {}},
        target={"cpu": {"threads": 1}},
        command="",
        files={},
    )
    read = read_report(report)
    assert read.created == "2026-01-03T00:00:00+00:00"
    assert read.verdict.outcome == validated.notes["verdict"]["outcome"]
    assert [row.label for row in read.ledger] == ["reference", "optimize", "quantize"]
    assert read.candidate.digest == quantized.digest


def test_validation_passes_the_candidate_through(validated, quantized):
    assert validated.path.read_bytes() == quantized.path.read_bytes()
    assert validated.kind is Kind.ONNX


def test_validation_needs_a_reference(quantized, net_desk, tmp_path):
    with pytest.raises(UserError, match="validate: there is no reference to compare with"):
        QUICK.run(quantized, net_desk(tmp_path))


def test_the_candidate_is_copied_where_links_fail(net_onnx, tmp_path, monkeypatch):
    from deploypipe.stages.validate import _pass_through

    def fail(self, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", fail)
    path = _pass_through(net_onnx.path, tmp_path)
    assert path.read_bytes() == net_onnx.path.read_bytes()


@pytest.mark.parametrize("form", ["directory", "tar"])
def test_a_bundle_verifies_and_carries_the_last_verdict(form, validated, net_desk, tmp_path):
    from deploypipe.bundle.verify import read_manifest

    desk = net_desk(tmp_path / "artifact")
    made = Bundle(form).run(validated, desk)
    assert made.kind is Kind.BUNDLE
    found = verify(made.path, desk.target.open)
    assert any("golden samples" in line for line in found)
    manifest = read_manifest(made.path)
    assert manifest.verdict == validated.notes["verdict"]
    assert manifest.name == "tiny"
    assert manifest.preprocess is None  # the samples are arrays


def test_the_bundle_tells_how_many_goldens_it_really_has(validated, net_desk, tmp_path):
    made = Bundle(goldens=4000).run(validated, net_desk(tmp_path / "artifact"))
    assert made.notes["changes"] == ["packed with 40 golden samples"]


class Elsewhere(Target):
    """No execution provider of ONNX Runtime's."""

    def missing(self):
        return None

    def open(self, model, *, profile=False, optimized=None):
        return Cpu(1).open(model)


@pytest.mark.parametrize(
    ("target", "providers"),
    [
        (Cpu(1), ["CPUExecutionProvider"]),
        (Tensorrt(1), ["TensorrtExecutionProvider", "CUDAExecutionProvider"]),
        (Elsewhere(), ["CPUExecutionProvider"]),
    ],
)
def test_the_runner_gets_the_providers_of_the_target(
    target, providers, net_onnx, net_desk, tmp_path, monkeypatch
):
    monkeypatch.setattr(Tensorrt, "open", lambda self, model: Cpu(1).open(model))
    content = Bundle().content(net_onnx, net_desk(tmp_path, target=target))
    assert content.providers == tuple(providers)


def test_a_model_of_a_fixed_batch_is_bundled(net_desk, net_data, tmp_path):
    model = ir.from_onnx_text(
        '<ir_version: 8, opset_import: ["": 17]>\n'
        "g (float[2,3,8,8] image) => (float[2,192] logits) { logits = Flatten(image) }"
    )
    save(model, tmp_path / "model.onnx")
    source = Artifact.of(Kind.ONNX, tmp_path / "model.onnx", "file")
    desk = net_desk(tmp_path / "artifact")
    made = Bundle(goldens=4).run(source, desk)
    assert verify(made.path, desk.target.open)
