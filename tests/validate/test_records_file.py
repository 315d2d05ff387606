"""Tables on disk, and parts put together: each id once, none missing."""

from dataclasses import replace

import numpy as np
import pytest

from deploypipe.core.errors import UserError
from deploypipe.validate import METRICS
from deploypipe.validate.accuracy import accuracy_of
from deploypipe.validate.drift import drift_of
from deploypipe.validate.pairs import record_pairs, take
from deploypipe.validate.records_file import Kept, merge, read_records, write_records

X = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
MODELS = {"reference": {"digest": "r"}, "candidate": {"digest": "c"}}


@pytest.fixture(params=["top1", "macro-f1", "mean-squared-error"])
def kept(request, cpu, scaled, samples):
    metric = METRICS.build(request.param)
    labels = X if request.param == "mean-squared-error" else X.argmax(axis=1)
    with cpu.open(scaled()) as a, cpu.open(scaled((1, 1, 2))) as b:
        pairs = record_pairs(a, b, samples(X, labels), metric=metric)
    return Kept(pairs, pairs.ids, "digest", MODELS, "Log (tensor 'z')")


def part(kept, rows):
    return replace(kept, pairs=take(kept.pairs, list(rows)))


def same(one, other):
    return accuracy_of(one) == accuracy_of(other) and drift_of(one) == drift_of(other)


def test_a_table_is_read_as_it_was_written(kept, tmp_path):
    write_records(tmp_path / "part", kept)
    found = read_records(tmp_path / "part")
    assert (found.expected, found.data, found.models) == (kept.expected, "digest", MODELS)
    assert found.first_nonfinite == "Log (tensor 'z')"
    assert found.pairs.metric == kept.pairs.metric
    assert same(found.pairs, kept.pairs)
    assert [file.name for file in tmp_path.iterdir()] == ["part"]


def test_a_table_that_is_damaged_anywhere_is_refused_or_read(kept, tmp_path):
    write_records(tmp_path / "part", kept)
    whole, rng = (tmp_path / "part").read_bytes(), np.random.default_rng(1)
    for place in rng.integers(0, len(whole), 200):
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "part").write_bytes(bytes(broken))
        try:
            read_records(tmp_path / "part")
        except UserError as error:
            assert "part" in str(error)


def test_no_pickle_is_in_it(kept, tmp_path):
    write_records(tmp_path / "part.npz", kept)
    with np.load(tmp_path / "part.npz", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


def test_parts_in_any_order_are_the_whole(kept):
    parts = {"b": part(kept, range(12, 30)), "a": part(kept, range(12))}
    whole = merge(parts)
    assert whole.pairs.ids == kept.pairs.ids
    assert same(whole.pairs, kept.pairs)


def test_a_missing_part_is_told_with_its_ids(kept):
    with pytest.raises(UserError, match="2 of 30 ids are missing: sample/28, sample/29"):
        merge({"a": part(kept, range(28))})


def test_an_id_that_is_there_twice_is_told_with_its_files(kept):
    parts = {"a": part(kept, range(20)), "b": part(kept, range(19, 30))}
    with pytest.raises(UserError, match=r"1 of 30 ids are there twice: sample/19 \(in a, b\)"):
        merge(parts)


def test_long_lists_of_ids_are_cut(kept):
    with pytest.raises(UserError, match="30 ids are missing: .*sample/7, ..."):
        merge({"a": part(kept, range(3))})


def test_an_id_of_another_evaluation_is_told(kept):
    pairs = replace(kept.pairs, ids=(*kept.pairs.ids[:-1], "other"))
    parts = {"a": replace(kept, pairs=pairs)}
    with pytest.raises(UserError, match=r"are missing: sample/29"):
        merge(parts)
    extra = replace(kept, expected=kept.expected[:-1])
    with pytest.raises(UserError, match="of no sample of the evaluation: sample/29"):
        merge({"a": extra})


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"data": "another"}, "another data than in a"),
        ({"models": {**MODELS, "candidate": {"digest": "x"}}}, "another candidate than in a"),
        ({"models": {**MODELS, "reference": {"digest": "x"}}}, "another reference than in a"),
        ({"expected": ("1",)}, "another samples than in a"),
    ],
)
def test_parts_of_another_evaluation_are_refused(kept, change, what):
    parts = {"a": part(kept, range(12)), "b": replace(part(kept, range(12, 30)), **change)}
    with pytest.raises(UserError, match=f"b: {what}"):
        merge(parts)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_records(tmp_path / "none.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x80\x04K\x01."])
def test_a_file_that_holds_no_records_is_told(tmp_path, content):
    (tmp_path / "part.npz").write_bytes(content)
    with pytest.raises(UserError, match="not a file of records"):
        read_records(tmp_path / "part.npz")


def test_arrays_of_something_else_are_told(tmp_path):
    np.savez(tmp_path / "part.npz", x=np.zeros(3))
    with pytest.raises(UserError, match="not a file of records"):
        read_records(tmp_path / "part.npz")


def test_columns_of_different_lengths_are_told(kept, tmp_path):
    write_records(tmp_path / "part.npz", replace(kept, pairs=replace(kept.pairs, ids=("one",))))
    with pytest.raises(UserError, match="not a file of records"):
        read_records(tmp_path / "part.npz")
