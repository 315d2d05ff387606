from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploypipe.core.errors import UserError
from deploypipe.data import Source, open_samples, source_of


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Source]:
    """A source over a file with these columns, schema metadata and options."""

    def write(
        columns: dict[str, Any], metadata: dict[str, str] | None = None, **options: Any
    ) -> Source:
        table = pa.table(columns).replace_schema_metadata(metadata)
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
        return source_of({"parquet": {"file": str(tmp_path / "a.parquet"), **options}})

    return write


def labels_in(source: Source) -> list[int] | None:
    labels = source.labels()
    return None if labels is None else labels.tolist()


def test_columns_are_found_by_their_types(written: Callable[..., Source], png: Any) -> None:
    columns = {
        "note": ["x"] * 3,
        "y": pa.array([2, 0, 1], pa.int8()),
        "pic": [png(i) for i in range(3)],
    }
    source = written(columns)
    assert len(source) == 3
    assert source.ids()[2] == "a.parquet#000002"
    assert labels_in(source) == [2, 0, 1]
    images = source.read([2, 0]).images
    assert images is not None
    assert [image.shape for image in images] == [(4, 4, 3)] * 2
    assert source.classes is None


@pytest.mark.parametrize("text", ["cat, dog", '["cat", "dog"]'])
def test_classes_come_from_the_metadata(
    text: str, written: Callable[..., Source], png: Any
) -> None:
    assert written({"i": [png(0)], "l": [1]}, {"classes": text}).classes == ("cat", "dog")


def test_hugging_faces_layout_is_read(written: Callable[..., Source], png: Any) -> None:
    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    }
    columns = {
        "image": [{"bytes": png(i), "path": None} for i in range(3)],
        "width": [4, 4, 4],
        "label": [0, 1, 1],
    }
    source = written(columns, {"huggingface": json.dumps({"info": {"features": features}})})
    assert source.classes == ("cat", "dog")
    assert labels_in(source) == [0, 1, 1]
    images = source.read([1]).images
    assert images is not None
    assert images[0].shape == (4, 4, 3)


def test_of_several_integer_columns_hugging_faces_class_label_counts(
    written: Callable[..., Source], png: Any
) -> None:
    features = {"fine": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    columns = {"image": [png(0)], "label": [7], "fine": [1]}
    source = written(columns, {"huggingface": json.dumps({"info": {"features": features}})})
    assert labels_in(source) == [1]
    assert source.classes == ("cat", "dog")


def test_a_file_without_integers_has_no_labels(written: Callable[..., Source], png: Any) -> None:
    assert written({"i": [png(0)], "score": [0.5]}).labels() is None


def test_of_several_integer_columns_the_one_called_label_counts(
    written: Callable[..., Source], png: Any
) -> None:
    assert labels_in(written({"i": [png(0)], "id": [7], "label": [3]})) == [3]


def test_columns_can_be_named(written: Callable[..., Source], png: Any) -> None:
    columns = {"a": [png(0)], "b": [png(1)], "x": [7], "y": [3]}
    source = written(columns, column="b", label="y")
    assert labels_in(source) == [3]
    assert source.digests() == written({"b": [png(1)]}).digests()


@pytest.mark.parametrize(
    ("columns", "options", "says"),
    [
        ({"a": [b"x"], "b": [b"x"]}, {}, "several columns hold encoded images: a, b. Name one"),
        ({"a": [b"x"], "x": [1], "y": [1]}, {}, "several columns hold integers: x, y. Name one"),
        ({"x": [1], "s": ["t"]}, {}, "no column holds encoded images"),
        ({"a": [b"x"]}, {"column": "aa"}, "there is no column 'aa', did you mean 'a'"),
        ({"a": [b"x"], "x": [1]}, {"column": "x"}, "column 'x' holds int64, expected encoded"),
        ({"a": [b"x"], "f": [0.5]}, {"label": "f"}, "column 'f' holds double, expected integers"),
        ({"a": [b"x", None]}, {}, "a.parquet#000001: column 'a' is empty (1 such rows)"),
        ({"a": [{"bytes": b"x"}, {"bytes": None}]}, {}, "a.parquet#000001: column 'a' is empty"),
        ({"a": [b"x"] * 3, "l": [1, 2, None]}, {}, "a.parquet#000002: column 'l' is empty"),
    ],
)
def test_columns_that_do_not_fit_are_explained(
    columns: dict[str, Any], options: dict[str, str], says: str, written: Callable[..., Source]
) -> None:
    source = written(columns, **options)
    with pytest.raises(UserError) as caught:
        source.digests()
        source.labels()
    assert says in str(caught.value)


def test_a_corrupt_image_is_named_by_its_row(written: Callable[..., Source], png: Any) -> None:
    source = written({"i": [png(0), png(1)[:50], png(2)]})
    source.read([0, 2])
    with pytest.raises(UserError, match="a.parquet#000001: cannot be decoded as an image"):
        source.read([0, 1])


@pytest.mark.parametrize("keep", [0, 3, 300])
def test_a_damaged_file_is_a_users_error(keep: int, parquet_file: Callable[..., Path]) -> None:
    file = parquet_file("a.parquet", [1, 2, 3])
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match="a.parquet: cannot be read as Parquet"):
        open_samples(f"parquet:{file}")


def test_a_folder_in_place_of_the_file_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        open_samples(f"parquet:{tmp_path}")


def test_a_file_without_rows_is_refused(written: Callable[..., Source]) -> None:
    source = written({"i": pa.array([], pa.binary())})
    with pytest.raises(UserError, match="there are no samples"):
        open_samples(source)
