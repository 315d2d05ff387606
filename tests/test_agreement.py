"""Two models judged without labels: what counts is whether they answer alike."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from deploypipe.core.errors import UserError
from deploypipe.layers import compare_layer_files
from deploypipe.runtime import TARGETS
from deploypipe.shards import merge_records, record_shard
from deploypipe.validate.files import record_files
from deploypipe.validate.metrics.agreement import Agreement
from deploypipe.validate.records import record
from deploypipe.verbs import Settings, validate_models

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


def test_labels_that_there_are_do_not_count(tiny, noisy):
    given = Settings(f"npz:{tiny.samples}", target=CPU)
    found = validate_models(tiny.model, noisy[0], given, {}, QUICK)
    assert found["accuracy"]["reference"] == 1.0
    assert found["accuracy"]["candidate"] == found["drift"]["top1_agreement"]


def test_parts_agree_as_the_whole(tiny, bare, noisy, tmp_path):
    given, files = bare[0], [tmp_path / f"{i}.npz" for i in (1, 2)]
    for i, file in enumerate(files, 1):
        record_shard(tiny.model, noisy[0], given, file, (i, 2), {"metric": "agreement"})
    merged = merge_records(files)["accuracy"]
    whole = validate_models(tiny.model, noisy[0], given, {}, QUICK)["accuracy"]
    assert merged == whole


def test_a_test_s_accuracy_may_be_agreement(tiny, bare, noisy):
    split = bare[0].need_data().split("validation")
    files = tiny.model, noisy[0], TARGETS.build(CPU), split
    reference, candidate = record_files(*files, metric=Agreement())
    assert reference.value == 1.0
    assert candidate.value == pytest.approx((noisy[1] == bare[1]).mean())


def test_layers_without_labels_go_by_nearness(tiny, noisy, bare):
    told = compare_layer_files(tiny.model, noisy[0], bare[0], options={"metric": "agreement"})
    assert told["layers"]["rows"]


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
        record_files(single, single, TARGETS.build(CPU), split, metric=Agreement())
