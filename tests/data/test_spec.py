from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploypipe.core.errors import EnvironmentLacks, UserError
from deploypipe.data import SOURCES, source_of
from deploypipe.data.spec import locate


def test_the_shelf_lists_the_files_of_the_folder() -> None:
    assert SOURCES.names() == ["csv", "digits", "images", "npz", "parquet", "python"]


def test_text_and_mappings_give_the_same_source(parquet_file: Callable[..., Path]) -> None:
    file = parquet_file("a.parquet", [1, 2])
    folder = file.parent
    as_text = source_of("parquet:a.parquet", folder=folder)
    assert as_text == source_of({"parquet": {"file": "a.parquet"}}, folder=folder)
    assert as_text == source_of({"parquet": str(file)})
    assert source_of(as_text) is as_text


def test_an_environment_variable_is_expanded_with_and_without_braces(
    parquet_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = parquet_file("a.parquet", [1])
    monkeypatch.setenv("MY_DATA", str(file.parent))
    for text in ("$MY_DATA/a.parquet", "${MY_DATA}/a.parquet"):
        assert len(source_of(f"parquet:{text}")) == 1


def test_the_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x").touch()
    assert locate("~/x", "data", Path("/")) == tmp_path / "x"


@pytest.mark.parametrize("value", [None, ""])
def test_an_unset_variable_says_which_to_set(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_DATA", value)
    with pytest.raises(UserError, match="variable MY_DATA is not set.*export MY_DATA=") as caught:
        source_of("parquet:$MY_DATA/a.parquet", "data.source")
    assert caught.value.where == "data.source.parquet.file"


def test_a_missing_file_says_where_relative_paths_start(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"no such file.*start at {tmp_path}"):
        source_of("parquet:nothing.parquet", folder=tmp_path)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("parket:x", "data: unknown source 'parket', did you mean 'parquet'"),
        ("train.parquet", "Write it as parquet:train.parquet"),
        ("digits:0", "'digits' takes no argument, got '0'"),
        ("parquet", "data.parquet.file: required, but not given"),
        ("parquet:", "nothing follows 'parquet:'"),
        ({"parquet": {"file": "/", "colum": 1}}, "unknown option 'colum', did you mean 'column'"),
        ({"parquet": {"file": 3}}, "data.parquet.file: expected str, got 3"),
        ({"parquet": 3}, "expected a mapping of options, got 3"),
        ({"parquet": {}, "digits": {}}, "expected the name of a source"),
        (17, "expected the name of a source"),
        (None, "expected the name of a source"),
    ],
)
def test_a_wrong_spec_is_explained(spec: object, says: str) -> None:
    with pytest.raises(UserError) as caught:
        source_of(spec)
    assert says in str(caught.value)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.delitem(sys.modules, "deploypipe.data.sources.digits", raising=False)
    with pytest.raises(EnvironmentLacks, match=r"source 'digits' needs 'sklearn'.*\[demo\]"):
        source_of("digits")
