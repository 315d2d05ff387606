from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploypipe.core.errors import UserError
from deploypipe.core.options import check
from deploypipe.data import Data, DataRecipe, Preprocess, open_data, open_samples, source_of


def opened(folder: Path = Path(), **given: Any) -> Data:
    return open_data(check(DataRecipe, given, "data"), "data", folder)


def test_counts_are_met_and_training_is_the_rest() -> None:
    data = opened(source="digits", split={"calibration": 64, "validation": 300})
    assert {name: len(split) for name, split in data.splits.items()} == {
        "validation": 300,
        "calibration": 64,
        "train": 1797 - 364,
    }
    assert len({i for split in data.splits.values() for i in split.ids}) == 1797


def test_training_can_be_counted_or_empty() -> None:
    assert len(opened(source="digits", split={"train": 5}).split("train")) == 5
    empty = opened(source="digits", split={"validation": 5, "train": 0})
    with pytest.raises(UserError, match="no samples for train"):
        empty.split("train")


def test_the_seed_changes_the_splits_and_the_calibration_count_leaves_validation_alone() -> None:
    def validation(seed: int, calibration: int) -> tuple[str, ...]:
        counts = {"calibration": calibration, "validation": 50}
        return opened(source="digits", split=counts, seed=seed).split("validation").ids

    assert validation(0, 10) == validation(0, 99)
    assert validation(0, 10) != validation(1, 10)


def test_a_prefix_of_a_sorted_source_is_a_fair_sample(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(400.0), label=np.repeat([0, 1], 200))
    labels = opened(tmp_path, source="npz:a.npz").split("train").labels
    assert labels is not None
    assert 20 < labels[:60].sum() < 40


def test_duplicates_never_lie_in_two_splits(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(90) // 3)
    data = opened(tmp_path, source="npz:a.npz", split={"calibration": 21, "validation": 30})
    seen = [set(split.contents) for split in data.splits.values()]
    assert len(data.split("validation")) == 30
    assert len(set.union(*seen)) == sum(map(len, seen)) == 30


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        (
            {"validation": 1798},
            "data.split.validation: 1798 samples were asked for, only 1797 exist",
        ),
        ({"validation": 1000, "calibration": 900}, "only 797 of the 1797 that exist are free"),
        ({"validation": 1000, "train": 900}, "data.split.train: 900 samples were asked for"),
        ({"validation": -1}, "data.split.validation"),
        ({"valid": 3}, "unknown option 'valid', did you mean 'validation'"),
    ],
)
def test_counts_that_cannot_be_met_are_explained(counts: dict[str, int], says: str) -> None:
    with pytest.raises(UserError) as caught:
        opened(source="digits", split=counts)
    assert says in str(caught.value)


def test_own_sources_are_taken_whole_or_by_count(parquet_file: Callable[..., Path]) -> None:
    folder = parquet_file("train.parquet", list(range(20))).parent
    parquet_file("validation.parquet", list(range(20, 28)))
    parquet_file("calibration.parquet", list(range(30, 40)))
    given = {name: f"parquet:{name}.parquet" for name in ("validation", "calibration")}
    data = opened(folder, source="parquet:train.parquet", split={"calibration": 4}, **given)
    assert [len(data.split(n)) for n in ("validation", "calibration", "train")] == [8, 4, 20]
    assert data.split("validation").ids[0].startswith("validation.parquet#")
    assert data.notes == []


def test_training_samples_in_validation_are_left_out_and_noted(
    parquet_file: Callable[..., Path],
) -> None:
    folder = parquet_file("train.parquet", [*range(20), 3]).parent
    parquet_file("validation.parquet", [3, 4, 50])
    given = {"source": "parquet:train.parquet", "validation": "parquet:validation.parquet"}
    data = opened(folder, **given, split={"calibration": 10})
    assert data.notes == ["3 training samples are also in validation; left out"]
    validation = set(data.split("validation").contents)
    assert not validation & set(data.split("calibration").contents)
    assert not validation & set(data.split("train").contents)
    assert len(data.split("calibration")) + len(data.split("train")) == 18


def test_calibration_and_validation_sharing_a_sample_names_both(
    parquet_file: Callable[..., Path],
) -> None:
    folder = parquet_file("train.parquet", list(range(20))).parent
    parquet_file("v.parquet", [30, 31])
    parquet_file("c.parquet", [40, 41, 31])
    with pytest.raises(UserError) as caught:
        opened(folder, source="parquet:train.parquet", validation="parquet:v.parquet",
               calibration="parquet:c.parquet")  # fmt: skip
    assert "c.parquet#000002 is also in validation, as v.parquet#000001" in str(caught.value)


def test_own_calibration_may_not_share_with_validation_out_of_the_source(
    parquet_file: Callable[..., Path],
) -> None:
    folder = parquet_file("train.parquet", list(range(8))).parent
    with pytest.raises(UserError, match="is also in validation, as train.parquet#"):
        opened(folder, source="parquet:train.parquet", calibration="parquet:train.parquet",
               split={"validation": 2})  # fmt: skip


def test_training_samples_in_own_calibration_are_kept_and_noted(
    parquet_file: Callable[..., Path],
) -> None:
    folder = parquet_file("train.parquet", list(range(8))).parent
    parquet_file("c.parquet", [7, 70])
    data = opened(folder, source="parquet:train.parquet", calibration="parquet:c.parquet")
    assert data.notes == ["1 training sample is also in calibration; kept, it only reads ranges"]


def test_sources_with_other_classes_are_refused(tmp_path: Path, png: Callable[..., bytes]) -> None:
    for name in ("train/cat", "train/dog", "test/dog"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.png").write_bytes(png(len(name)))
    with pytest.raises(UserError, match="classes are not those of data.source: only one has cat"):
        opened(tmp_path, source="images:train", validation="images:test")


def test_an_empty_source_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((0, 3)))
    with pytest.raises(UserError, match="data.source: there are no samples"):
        opened(tmp_path, source="npz:a.npz")


def test_a_mean_that_does_not_fit_is_told_on_opening() -> None:
    with pytest.raises(UserError, match="preprocess.mean: needs 1 or 1 values"):
        opened(source="digits", preprocess={"mean": [0.1, 0.2, 0.3]})


def test_preprocess_for_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 3)))
    with pytest.raises(UserError, match="arrays, to which preprocess does not apply"):
        opened(tmp_path, source="npz:a.npz", preprocess={"scale": 1.0})


def test_an_unknown_source_is_found_before_anything_is_opened() -> None:
    with pytest.raises(
        UserError, match="data.source: unknown source 'digit', did you mean 'digits'"
    ):
        check(DataRecipe, {"source": "digit"}, "data")


def test_a_bare_text_is_the_source() -> None:
    assert check(DataRecipe, "digits", "data") == DataRecipe(source="digits")


def test_the_schema_knows_text_and_options() -> None:
    text = json.dumps(DataRecipe.model_json_schema())
    assert "source:argument" in text
    assert "tokenizer" in text


def test_describe_is_plain_json_without_expanded_paths(
    parquet_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = parquet_file("a.parquet", list(range(6))).parent
    monkeypatch.setenv("MY_DATA", str(folder))
    told = opened(source="parquet:$MY_DATA/a.parquet", split={"validation": 2}).describe()
    assert json.loads(json.dumps(told)) == told
    assert str(folder) not in json.dumps(told)
    assert told["source"] == "parquet:$MY_DATA/a.parquet"
    assert told["classes"] == ["even", "odd"]
    assert told["splits"]["validation"]["samples"] == 2


def test_open_samples_gives_one_split_for_both_uses() -> None:
    data = open_samples("digits", samples=40)
    assert len(data.split("validation")) == 40
    assert data.split("calibration") is data.split("validation")
    assert list(data.describe()["splits"]) == ["validation"]
    (note,) = data.describe()["notes"]
    assert note.startswith("these samples serve calibration and validation alike")
    assert len(open_samples("digits").split("validation")) == 1797


def test_open_samples_sets_calibration_apart_when_asked() -> None:
    data = open_samples("digits", samples=40, calibration=30)
    validation, calibration = data.split("validation"), data.split("calibration")
    assert (len(validation), len(calibration)) == (40, 30)
    assert not set(validation.contents) & set(calibration.contents)
    assert data.notes == []
    assert list(data.describe()["splits"]) == ["validation", "calibration"]
    assert len(open_samples("digits", calibration=30).split("validation")) == 1797 - 30


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"calibration": 1797}, "--samples: expected at least 1, got 0, for 1797 of 1797 are for"),
        ({"calibration": 1798}, "calibration: 1798 samples were asked for, only 1797 exist"),
        ({"calibration": -1}, "calibration: expected at least 0, got -1"),
        ({"calibration": 1000, "samples": 798}, "only 797 of the 1797 that exist are free"),
    ],
)
def test_what_is_set_apart_must_leave_enough(given: dict[str, int], says: str) -> None:
    with pytest.raises(UserError, match=says):
        open_samples("digits", **given)


def test_open_samples_takes_a_preprocess_and_an_input_name() -> None:
    data = open_samples("digits", preprocess=Preprocess(size=16), samples=2, input="x")
    assert data.split("validation").batch([0]).inputs["x"].shape == (1, 1, 16, 16)


@pytest.mark.parametrize(("samples", "says"), [(5000, "only 1797 exist"), (0, "at least 1, got 0")])
def test_too_many_or_no_samples_are_refused(samples: int, says: str) -> None:
    with pytest.raises(UserError, match=f"--samples: .*{says}"):
        open_samples("digits", samples=samples)


def test_a_source_made_by_hand_is_taken() -> None:
    data = open_samples(source_of("digits"), samples=3)
    assert data.describe()["source"] == {"digits": {}}


def test_the_real_images_share_nothing_and_only_validation_is_decoded(
    real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deploypipe.data.sources import parquet

    decoded: list[str] = []
    plain = parquet.decode
    monkeypatch.setattr(parquet, "decode", lambda b, name: decoded.append(name) or plain(b, name))
    given = {name: f"parquet:cifar10/{file}.parquet"
             for name, file in {"source": "train", "validation": "validation"}.items()}  # fmt: skip
    data = opened(real_data, **given, split={"calibration": 100})
    assert [len(data.split(n)) for n in ("validation", "calibration", "train")] == [
        5000,
        100,
        49900,
    ]
    assert data.notes == []
    assert data.classes is not None
    assert data.classes[0] == "airplane"
    data.check_labels(10)
    batch = next(data.split("validation").batches(10, limit=10))
    assert batch.inputs["image"].shape == (10, 3, 32, 32)
    assert sum(name.startswith("train.parquet") for name in decoded) < 10  # tried out on opening
    assert len(decoded) < 20
