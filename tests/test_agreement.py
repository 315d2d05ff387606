"""Two models judged without labels: what counts is whether they answer alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from deploypipe.core.errors import UserError
from deploypipe.layers import compare_layer_files
from deploypipe.pipeline import plan, run
from deploypipe.runtime import TARGETS
from deploypipe.shards import merge_records, record_shard
from deploypipe.validate.files import pair_files
from deploypipe.validate.metrics.agreement import Agreement
from deploypipe.validate.records import record
from deploypipe.verbs import Settings, quantize_model, validate_models

CPU = {"cpu": {"threads": 1}}
QUICK = {"metric": "agreement", "rounds": 3, "seconds": 0.1}


@pytest.fixture
def bare(tiny):
    """200 samples without labels, and what the model answers to them."""
    x = np.load(tiny.samples)["x"]
    spec = tiny.save("bare.npz", x=x)
    with TARGETS.build(CPU).open(tiny.model) as session:
        answers = next(iter(session({"x": x}).values())).argmax(1)
    return Settings(spec, target=CPU), answers


@pytest.fixture
def noisy(tiny):
    """The model with moved weights, and what it answers."""
    proto = onnx.load(tiny.model)
    weight = proto.graph.initializer[2]
    values = onnx.numpy_helper.to_array(weight)
    moved = values + np.random.default_rng(1).normal(size=values.shape).astype("f4") / 3
    weight.CopyFrom(onnx.numpy_helper.from_array(moved, weight.name))
    path = tiny.folder / "noisy.onnx"
    onnx.save(proto, path)
    with TARGETS.build(CPU).open(path) as session:
        answers = next(iter(session({"x": np.load(tiny.samples)["x"]}).values())).argmax(1)
    return path, answers


def test_samples_without_labels_are_judged_by_agreement(tiny, bare, noisy):
    (given, expected), (candidate, answers) = bare, noisy
    share = float((answers == expected).mean())
    assert 0.3 < share < 0.99
    found = validate_models(tiny.model, candidate, given, {"accuracy_drop": 0.5}, QUICK)
    told = found["accuracy"]
    assert (told["metric"], told["unit"]) == ("agreement", "points")
    assert (told["reference"], told["candidate"]) == (1.0, pytest.approx(share))
    assert told["drop_points"] == pytest.approx(100 * (1 - share))
    assert found["drift"]["top1_agreement"] == pytest.approx(share)
    assert found["verdict"]["outcome"] == "FAIL"


def test_labels_that_there_are_do_not_count_but_are_told(tiny, bare, noisy):
    rolled = np.where(noisy[1] == bare[1], (bare[1] + 1) % 3, noisy[1]).astype(np.int64)
    spec = tiny.save("rolled.npz", x=np.load(tiny.samples)["x"], label=rolled)
    limits = {"accuracy_drop": 0.5}
    found = validate_models(tiny.model, noisy[0], Settings(spec, target=CPU), limits, QUICK)
    told, drift = found["accuracy"], found["drift"]
    assert told["reference"] == 1.0
    assert told["candidate"] == drift["top1_agreement"]
    assert told["mcnemar_p"] is None
    assert drift["flips_to_wrong"] == 0  # the reference was never right
    changed = int((noisy[1] != bare[1]).sum())
    assert drift["flips_to_right"] == changed > 0
    (why,) = (one["why"] for one in found["verdict"]["checks"] if one["name"] == "accuracy drop")
    assert f"200 samples, {changed} are answered otherwise" in why
    assert {one["label"] for one in drift["worst_samples"]} <= {0.0, 1.0, 2.0}


def test_parts_agree_as_the_whole(tiny, bare, noisy, tmp_path):
    given, files = bare[0], [tmp_path / f"{i}.npz" for i in (1, 2)]
    for i, file in enumerate(files, 1):
        record_shard(tiny.model, noisy[0], given, file, (i, 2), {"metric": "agreement"})
    merged = merge_records(files)["accuracy"]
    whole = validate_models(tiny.model, noisy[0], given, {}, QUICK)["accuracy"]
    assert merged == whole


def test_records_are_judged_by_the_metric_that_scored_them(tiny, bare, noisy, tmp_path):
    file = tmp_path / "r.npz"
    record_shard(tiny.model, noisy[0], bare[0], file, options={"metric": "agreement"})
    assert merge_records([file], metric="agreement")["accuracy"]["metric"] == "agreement"
    with pytest.raises(UserError, match="--metric: these records were scored by agreement"):
        merge_records([file], metric="top1")


def test_no_model_agrees_with_more_than_all(tiny, bare):
    told = validate_models(tiny.model, tiny.model, bare[0], {}, QUICK)["accuracy"]
    assert (told["drop_points"], told["low"], told["method"]) == (0, 0, "wilson")
    assert 0 < told["high"] < 3


def test_two_files_are_paired_by_agreement(tiny, bare, noisy):
    split = bare[0].need_data().split("validation")
    pairs = pair_files(tiny.model, noisy[0], TARGETS.build(CPU), split, metric=Agreement())
    assert pairs.reference_rows.all()
    assert pairs.candidate_rows.mean() == pytest.approx((noisy[1] == bare[1]).mean())
    assert np.isnan(pairs.labels).all()


def test_every_step_is_scored_by_agreement(tiny, bare, tmp_path):
    steps = ["optimize", {"quantize": {"decide": False}}, {"validate": QUICK}]
    data = {"source": bare[0].data, "split": {"calibration": 50, "validation": 100}}
    file = replace(tiny, recipe={**tiny.recipe, "steps": steps, "data": data}).file
    ledger = run(plan(file), tmp_path / "out").report["ledger"]
    assert [row["label"] for row in ledger] == ["reference", "optimize", "quantize"]
    assert [row["accuracy"] for row in ledger[:2]] == [1.0, 1.0]
    assert ledger[2]["accuracy"] > 0.8


def test_labels_need_not_fit_where_agreement_counts(tiny, bare, tmp_path):
    labels = np.full(len(bare[1]), 57)
    spec = tiny.save("strange.npz", x=np.load(tiny.samples)["x"], label=labels)
    data = {"source": spec, "split": {"calibration": 50, "validation": 100}}
    by = {
        metric: replace(
            tiny,
            recipe={
                **tiny.recipe,
                "steps": [{"validate": {**QUICK, "metric": metric}}],
                "data": data,
            },
        )
        for metric in ("agreement", "top1")
    }
    assert run(plan(by["agreement"].file), tmp_path / "out").report["accuracy"]["reference"] == 1.0
    with pytest.raises(UserError, match="label 57"):
        plan(by["top1"].file)


def test_layers_without_labels_go_by_nearness(tiny, bare, tmp_path):
    int8 = tmp_path / "int8.onnx"
    quantize_model(tiny.model, int8, Settings(f"npz:{tiny.samples}", target=CPU), {"decide": False})
    told = compare_layer_files(tiny.model, int8, bare[0], options={"metric": "agreement"})
    assert told["restore"]["after"] > told["restore"]["before"]


def test_one_model_agrees_with_nobody(tiny, bare):
    split = bare[0].need_data().split("validation")
    with (
        TARGETS.build(CPU).open(tiny.model) as session,
        pytest.raises(UserError, match="agreement is of two models"),
    ):
        record(session, split, metric=Agreement())


def test_models_without_classes_are_refused(tiny, bare):
    proto = onnx.load(tiny.model)
    name = proto.graph.output[0].name
    proto.graph.node.append(onnx.helper.make_node("ArgMax", [name], ["place"], axis=1))
    proto.graph.node.append(onnx.helper.make_node("Cast", ["place"], ["top"], to=1))
    proto.graph.output[0].name = "top"
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    single = tiny.folder / "single.onnx"
    onnx.save(proto, single)
    with pytest.raises(UserError, match="agreement takes outputs .*two classes or more"):
        validate_models(single, single, bare[0], {}, QUICK)
    split = bare[0].need_data().split("validation")
    with pytest.raises(UserError, match="agreement takes outputs"):
        pair_files(single, single, TARGETS.build(CPU), split, metric=Agreement())
