"""An evaluation in parts is the evaluation: nothing twice, nothing missing, and bad input is told."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from deploypipe.core.errors import UserError
from deploypipe.report.schema import read_report
from deploypipe.shards import merge_records, record_shard
from deploypipe.validate.records_file import read_records
from deploypipe.verbs import Settings, validate_models

CPU = {"cpu": {"threads": 1}}
QUICK = {"rounds": 3, "seconds": 0.1}


@pytest.fixture
def given(tiny):
    return Settings(f"npz:{tiny.samples}", target=CPU)


@pytest.fixture
def edited(tiny):
    """A copy of the model, changed by a function of its proto."""

    def make(name, change):
        proto = onnx.load(tiny.model)
        change(proto)
        path = tiny.folder / name
        onnx.save(proto, path)
        return path

    return make


@pytest.fixture
def noisy(edited):
    def change(proto):
        weight = proto.graph.initializer[2]
        values = onnx.numpy_helper.to_array(weight)
        moved = values + np.random.default_rng(1).normal(size=values.shape).astype("f4") / 3
        weight.CopyFrom(onnx.numpy_helper.from_array(moved, weight.name))

    return edited("noisy.onnx", change)


def parts_of(tiny, candidate, given, folder, of, **options):
    files = [folder / f"{number}.npz" for number in range(1, of + 1)]
    for number, file in enumerate(files, 1):
        told = record_shard(tiny.model, candidate, given, file, (number, of), options)
        assert told["of"] == 200
    return files


@pytest.mark.parametrize("metric", ["top1", "macro-f1"])
def test_merged_parts_judge_as_the_whole(tiny, noisy, given, tmp_path, metric):
    budget, options = {"accuracy_drop": 3.0}, {"metric": metric}
    files = parts_of(tiny, noisy, given, tmp_path, 3, **options)
    merged = merge_records(files[::-1], budget)
    whole = validate_models(tiny.model, noisy, given, budget, {**options, **QUICK})
    assert merged["accuracy"] == whole["accuracy"]
    assert merged["drift"] == whole["drift"]
    assert merged["data"]["splits"]["validation"] == whole["data"]["splits"]["validation"]
    assert merged["candidate"]["digest"] == whole["candidate"]["digest"]
    checks = {check["name"]: check for check in whole["verdict"]["checks"]}
    for check in merged["verdict"]["checks"]:
        assert check == checks[check["name"]]
    assert read_report({"version": 1, "name": "merged", **merged}).accuracy.samples == 200


def test_parts_of_uneven_sizes_hold_every_sample_once(tiny, noisy, given, tmp_path):
    tables = [read_records(file) for file in parts_of(tiny, noisy, given, tmp_path, 7)]
    ids = [name for table in tables for name in table.pairs.ids]
    assert len(ids) == len(set(ids)) == 200
    assert sorted(len(table.pairs) for table in tables) == [28, 28, 28, 29, 29, 29, 29]


def test_a_fixed_batch_that_does_not_divide_a_part_counts_nothing_twice(
    tiny, edited, given, tmp_path
):
    def fix(proto):
        for value in (proto.graph.input[0], proto.graph.output[0]):
            value.type.tensor_type.shape.dim[0].dim_value = 16

    fixed = edited("fixed.onnx", fix)
    files = [tmp_path / "1.npz", tmp_path / "2.npz"]
    for number, file in enumerate(files, 1):
        record_shard(fixed, fixed, given, file, (number, 2))
    assert merge_records(files)["accuracy"]["samples"] == 200


def test_a_part_that_is_missing_or_twice_is_told(tiny, noisy, given, tmp_path):
    files = parts_of(tiny, noisy, given, tmp_path, 4)
    with pytest.raises(UserError, match="50 of 200 ids are missing"):
        merge_records(files[:-1])
    again = tmp_path / "again.npz"
    again.write_bytes(files[0].read_bytes())
    with pytest.raises(UserError, match="50 of 200 ids are there twice"):
        merge_records([*files, again])
    with pytest.raises(UserError, match="given twice"):
        merge_records([*files, files[0]])


def test_a_budget_for_latency_is_undecided_without_a_clock(tiny, noisy, given, tmp_path):
    found = merge_records(parts_of(tiny, noisy, given, tmp_path, 2), {"speedup": 2.0})
    assert found["verdict"]["outcome"] == "UNDECIDED"


def test_records_are_kept_beside_a_verdict(tiny, noisy, given, tmp_path):
    file = tmp_path / "records.npz"
    found = validate_models(tiny.model, noisy, given, {}, QUICK, records=file)
    assert read_records(file).pairs.ids
    merged = merge_records([file])
    assert merged["accuracy"] == found["accuracy"]


def test_samples_that_changed_since_the_baseline_leave_it_undecided(tiny, given, tmp_path):
    before, now, report = (tmp_path / name for name in ("before.npz", "now.npz", "report.json"))
    record_shard(tiny.model, tiny.model, given, before)
    report.write_text(json.dumps({"version": 1, "name": "before", **merge_records([before])}))
    x = np.load(tiny.samples)["x"][:150]
    other = Settings(tiny.save("other.npz", x=x, label=np.zeros(150, int)), target=CPU)
    record_shard(tiny.model, tiny.model, other, now)
    for baseline in (before, report):
        assert merge_records([before], baseline=baseline)["verdict"]["outcome"] == "PASS"
        changed = merge_records([now], baseline=baseline)["verdict"]
        assert changed["outcome"] == "UNDECIDED"
        assert "the samples changed since the baseline" in changed["checks"][-1]["why"]
    found = validate_models(tiny.model, tiny.model, other, {}, QUICK, baseline=report)
    assert found["verdict"]["checks"][-1]["name"] == "same samples"


def test_a_part_of_the_samples_is_no_baseline_for_all_of_them(tiny, given, tmp_path):
    report, records = tmp_path / "report.json", tmp_path / "records.npz"
    few = {**QUICK, "samples": 50}
    found = validate_models(tiny.model, tiny.model, given, {}, few, records=records)
    report.write_text(json.dumps({"version": 1, "name": "few", **found}, default=str))
    for baseline in (report, records):
        again = validate_models(tiny.model, tiny.model, given, {}, few, baseline=baseline)
        more = validate_models(tiny.model, tiny.model, given, {}, QUICK, baseline=baseline)
        assert "same samples" not in [check["name"] for check in again["verdict"]["checks"]]
        assert more["verdict"]["checks"][-1]["name"] == "same samples"


@pytest.mark.parametrize(
    ("name", "text"), [("none.json", None), ("bad.json", "{}"), ("b.npz", "x")]
)
def test_a_baseline_that_is_none_is_told_before_any_work(tiny, tmp_path, name, text):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=name):
        validate_models(tiny.model, tiny.model, Settings(), {}, QUICK, baseline=path)


def test_nan_is_a_failure_that_names_the_first_node(tiny, edited, given, tmp_path):
    def change(proto):
        proto.graph.node[4].op_type = "Sqrt"  # of negative values too
        proto.graph.node[4].name = "root"

    bad = edited("bad.onnx", change)
    found = validate_models(tiny.model, bad, given, {}, QUICK)
    check = found["verdict"]["checks"][0]
    assert (check["name"], check["outcome"]) == ("finite outputs", "FAIL")
    assert "first made by Sqrt 'root' (tensor 'd')" in check["why"]
    files = parts_of(tiny, bad, given, tmp_path, 2)
    assert merge_records(files)["drift"]["first_nonfinite"] == "Sqrt 'root' (tensor 'd')"


def test_classes_in_another_order_are_refused(tiny, edited, given, tmp_path):
    def named(*names):
        def change(proto):
            entry = proto.metadata_props.add()
            entry.key, entry.value = "classes", json.dumps(names)

        return change

    first, second = edited("a.onnx", named("x", "y", "z")), edited("b.onnx", named("x", "z", "y"))
    with pytest.raises(UserError, match="class 1 is 'y' in the reference, 'z' here"):
        record_shard(first, second, given, tmp_path / "r.npz")
    with pytest.raises(UserError, match="class 1 is 'y' in the reference"):
        validate_models(first, second, given, {}, QUICK)


def test_a_metric_that_does_not_fit_is_told_before_the_clock_starts(tiny, given):
    with pytest.raises(UserError, match="pearson takes one output and one label a sample"):
        validate_models(tiny.model, tiny.model, given, {}, {"metric": "pearson", **QUICK})


def test_a_function_of_the_users_scores_but_no_file_may_name_it(tiny, noisy, given, tmp_path, call):
    own = tiny.say(
        "own.py", "def right(outputs, labels):\n    return outputs.argmax(1) == labels\n"
    )
    metric, file = f"python:{own}:right", tmp_path / "r.npz"
    told = record_shard(tiny.model, noisy, given, file, options={"metric": metric})
    assert told["metric"]["reference"] == 1
    found = merge_records([file], metric=metric)
    assert (found["accuracy"]["metric"], found["accuracy"]["method"]) == ("python", "bca")
    with pytest.raises(UserError, match="which is not run because a file names it"):
        merge_records([file])
    assert call("validate", "--merge", file, "--metric", metric).code == 0


def test_the_command_line_writes_parts_and_merges_them(tiny, noisy, call, tmp_path):
    files = [tmp_path / f"{number}.npz" for number in (1, 2)]
    words = ["validate", tiny.model, noisy, "--data", f"npz:{tiny.samples}"]
    for number, file in enumerate(files, 1):
        said = call(*words, "--shard", f"{number}/2", "--records", file, "--json")
        assert (said.code, said.json["samples"]) == (0, 100)
    said = call("validate", "--merge", *files, "--budget", "accuracy_drop=90", "--json")
    assert (said.code, said.json["verdict"]["outcome"]) == (0, "PASS")
    assert call("validate", "--merge", *files, "--budget", "accuracy_drop=0.001").code in (1, 3)
    assert call("validate", "--merge", files[0]).code == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["a.onnx"], "expected REFERENCE CANDIDATE.onnx, got 1 files"),
        (["a.onnx", "b.onnx", "--shard", "3/2", "--records", "r"], "expected I/N"),
        (["a.onnx", "b.onnx", "--shard", "1/2"], "--records"),
        (["--merge", "none.npz"], "none.npz: no such file"),
        (["a.onnx", "b.onnx", "--layers", "--names", "none.json"], "none.json: no such file"),
    ],
)
def test_a_mistake_is_told(call, words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = call("validate", *words)
    assert said.code == 2
    assert told in said.err
