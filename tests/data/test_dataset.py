from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploypipe.core.errors import UserError
from deploypipe.core.progress import Progress
from deploypipe.data import (
    Data,
    Preprocess,
    Raw,
    Source,
    Split,
    decoded,
    open_samples,
)
from deploypipe.data.dataset import names_classes


@dataclass
class Counted(Source):
    """``count`` images of one pixel, whose value is the row; remembers what was read."""

    count: int = 10
    shapes: dict[int, tuple[int, ...]] = field(default_factory=dict)
    marks: np.ndarray | None = None
    reads: list[int] = field(default_factory=list)

    def ids(self) -> Sequence[str]:
        return [f"row-{i}" for i in range(self.count)]

    def digests(self) -> Sequence[str]:
        return [str(i) for i in range(self.count)]

    def labels(self) -> np.ndarray | None:
        return self.marks

    def read(self, indices: Sequence[int]) -> Raw:
        self.reads += indices
        return Raw(images=[np.full(self.shapes.get(i, (1, 1, 1)), i, np.uint8) for i in indices])


@dataclass
class Feeds(Counted):
    """Arrays instead of images, with NaN in row 3."""

    def read(self, indices: Sequence[int]) -> Raw:
        values = [np.nan if i == 3 else float(i) for i in indices]
        return Raw(inputs={"x": np.array(values, np.float32)[:, None]})


def split_of(source: Source, rows: Sequence[int] | None = None, **more: Any) -> Split:
    rows = range(len(source)) if rows is None else rows
    return Split("validation", source, rows, Preprocess(scale=1.0), **more)


def data_of(split: Split) -> Data:
    return Data({"source": "x"}, {"validation": split}, split.preprocess, None, [])


def test_the_first_samples_are_a_split_of_their_own() -> None:
    split = split_of(Counted(marks=np.arange(10)), [4, 2, 7], input="x")
    first = split.first(2)
    assert (first.name, first.ids) == ("validation", ("row-4", "row-2"))
    assert first.labels is not None
    assert first.labels.tolist() == [4, 2]
    np.testing.assert_array_equal(first.batch([1]).inputs["x"], split.batch([1]).inputs["x"])
    assert first.digest != split.digest
    with pytest.raises(UserError, match="4 samples were asked for, the validation split has 3"):
        split.first(4)


def test_a_batch_has_ids_inputs_and_labels_in_the_order_asked_for() -> None:
    split = split_of(Counted(marks=np.arange(10)), rows=[7, 2, 5])
    batch = split.batch([2, 0])
    assert batch.ids == ("row-5", "row-7")
    assert batch.inputs["image"].ravel().tolist() == [5.0, 7.0]
    assert batch.inputs["image"].shape == (2, 1, 1, 1)
    assert batch.labels is not None
    assert batch.labels.tolist() == [5, 7]


def test_the_input_can_have_another_name_and_labels_may_lack() -> None:
    batch = split_of(Counted(), input="pixels").batch([0])
    assert list(batch.inputs) == ["pixels"]
    assert batch.labels is None


def test_batches_come_in_order_and_the_last_is_ragged() -> None:
    batches = list(split_of(Counted()).batches(4, limit=9))
    assert [len(batch) for batch in batches] == [4, 4, 1]
    assert [i for batch in batches for i in batch.ids] == [f"row-{i}" for i in range(9)]


@pytest.mark.parametrize("limit", [11, 0, -1])
def test_a_limit_that_the_split_cannot_meet_is_refused_before_the_first_batch(limit: int) -> None:
    with pytest.raises(
        UserError, match=f"{limit} samples were asked for, the validation split has 10"
    ):
        split_of(Counted()).batches(4, limit=limit)


def test_a_batch_size_of_zero_is_refused() -> None:
    with pytest.raises(UserError, match="batch size must be at least 1, got 0"):
        split_of(Counted()).batches(0)


def test_an_image_is_decoded_once() -> None:
    source = Counted()
    split = split_of(source)
    split.batch([1, 1, 2])
    before = len(source.reads)
    list(split.batches(3))
    split.batch([2, 1])
    assert sorted(set(source.reads[before:])) == [0, 3, 4, 5, 6, 7, 8, 9]
    assert len(source.reads) - before == 8


def test_only_the_splits_own_samples_are_decoded() -> None:
    source = Counted()
    list(split_of(source, rows=[4, 5]).batches(2))
    assert set(source.reads) == {4, 5}


def test_a_split_too_large_for_memory_is_decoded_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "KEPT_BYTES", 9)
    source = Counted()
    split = split_of(source)
    assert [b.inputs["image"].item() for b in split.batches(1)] == list(range(10))
    before = len(source.reads)
    split.batch([0, 1])
    assert len(source.reads) - before == 2


@pytest.mark.parametrize("kept", [0, 1000])
def test_an_odd_size_in_a_later_chunk_is_found(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "CHUNK", 2)
    monkeypatch.setattr(decoded, "KEPT_BYTES", kept)
    source = Counted(shapes={6: (1, 2, 1), 7: (1, 2, 1)})
    with pytest.raises(UserError, match=r"\(row-0\) and \[1, 2, 1\] \(row-6\).*preprocess.size"):
        list(split_of(source).batches(2))


def test_the_first_decoding_shows_its_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "CHUNK", 4)
    seen: list[tuple[str, float]] = []

    class Told(Progress):
        @contextmanager
        def task(self, label: str, total: float) -> Iterator[Any]:
            task = type("Task", (), {"advance": lambda _, n: seen.append((label, n))})()
            yield task

    split = split_of(Counted(), progress=Told())
    list(split.batches(5))
    assert {label for label, _ in seen} == {"decode validation"}
    assert sum(steps for _, steps in seen) == 10
    list(split.batches(5))
    assert sum(steps for _, steps in seen) == 10


def test_nan_in_an_input_names_the_sample() -> None:
    split = split_of(Feeds())
    assert split.batch([0, 1]).inputs["x"].tolist() == [[0.0], [1.0]]
    with pytest.raises(UserError, match="'x' holds NaN or infinity, first in sample row-3"):
        split.batch([1, 3])


def test_a_missing_split_says_what_to_set() -> None:
    data = data_of(split_of(Counted()))
    with pytest.raises(UserError, match=r"no samples for calibration.*data\.split\.calibration"):
        data.split("calibration")


def test_labels_in_range_pass() -> None:
    data_of(split_of(Counted(marks=np.arange(10)))).check_labels(10)
    data_of(split_of(Counted())).check_labels(1)


@pytest.mark.parametrize("bad", [12, -1])
def test_a_label_out_of_range_names_the_first_sample(bad: int) -> None:
    marks = np.arange(10)
    marks[4] = bad
    with pytest.raises(UserError, match=f"sample row-4 has label {bad}, the model has 10 classes"):
        data_of(split_of(Counted(marks=marks))).check_labels(10)


def test_scores_are_no_classes() -> None:
    with pytest.raises(UserError, match="a classifier needs integers: row-0 has 0.5"):
        data_of(split_of(Counted(marks=np.full(10, 0.5)))).check_labels(10)


def test_255_in_a_mask_is_ignored_but_other_values_are_not() -> None:
    marks = np.zeros((10, 2, 2), np.int64)
    marks[1, 0, 0] = 255
    data_of(split_of(Counted(marks=marks))).check_labels(2)
    marks[2, 1, 1] = 7
    with pytest.raises(UserError, match="row-2 has label 7"):
        data_of(split_of(Counted(marks=marks))).check_labels(2)


def test_the_digest_covers_content_labels_order_preprocessing_and_input() -> None:
    def digest(source: Source, rows: Sequence[int], scale: float = 1.0, name: str = "a") -> str:
        pre = Preprocess(scale=scale)
        split = Split("validation", source, rows, pre, input=name)
        return replace(data_of(split), preprocess=pre).digest

    marks = np.arange(10)
    base = digest(Counted(marks=marks), [1, 2])
    assert base == digest(Counted(marks=marks), [1, 2])
    others = [
        digest(Counted(marks=marks), [2, 1]),
        digest(Counted(marks=marks), [1, 3]),
        digest(Counted(marks=marks[::-1].copy()), [1, 2]),
        digest(Counted(marks=marks), [1, 2], scale=0.5),
        digest(Counted(marks=marks), [1, 2], name="b"),
    ]
    assert len({base, *others}) == 6


def test_the_digest_covers_the_sources_settings() -> None:
    class Tokenized(Counted):
        def settings(self) -> Any:
            return {"length": self.count}

    rows = [1, 2]
    digests = {data_of(split_of(Tokenized(count), rows)).digest for count in (10, 11)}
    assert len(digests) == 2
    assert len({data_of(split_of(Counted(count), rows)).digest for count in (10, 11)}) == 1


def test_the_digest_is_the_same_in_another_process(parquet_file: Callable[..., Path]) -> None:
    file = parquet_file("a.parquet", list(range(6)))
    code = f"from deploypipe.data import open_samples; print(open_samples('parquet:{file}').digest)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == open_samples(f"parquet:{file}").digest


@pytest.mark.parametrize("of", [1, 2, 3])
def test_parts_of_a_split_follow_each_other(of: int) -> None:
    split = split_of(Counted(marks=np.arange(10)), [4, 2, 7], input="x")
    parts = [split.shard(number, of) for number in range(1, of + 1)]
    assert tuple(name for part in parts for name in part.ids) == split.ids
    assert {part.name for part in parts} == {split.name}


@pytest.mark.parametrize(("number", "of"), [(0, 2), (3, 2), (1, 4)])
def test_a_part_that_cannot_be_is_told(number: int, of: int) -> None:
    split = split_of(Counted(), [4, 2, 7])
    with pytest.raises(UserError, match=f"there is no part {number} of {of} of 3 samples"):
        split.shard(number, of)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([0, 2]), True),
        (np.array([[0], [2]]), True),
        (np.array([0.0, 2.0]), False),
        (np.array([[0, 1], [1, 0]]), False),
        (None, False),
    ],
)
def test_classes_are_one_whole_number_a_sample(labels, classes):
    assert names_classes(labels) is classes
