from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from deploypipe.core.errors import UserError
from deploypipe.core.files import (
    canonical_json,
    digest_json,
    digest_tree,
    explained_os_errors,
    sha256_file,
    tree_bytes,
    write_text,
    writing,
)


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def fill(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_a_file_appears_whole_and_alone(tmp_path):
    with writing(tmp_path / "new" / "a.txt") as place:
        place.write_text("half")
        assert not (tmp_path / "new" / "a.txt").exists()
        place.write_text("whole")
    assert (tmp_path / "new" / "a.txt").read_text() == "whole"
    assert names(tmp_path) == ["new", "new/a.txt"]


def test_a_file_replaces_the_old_one(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new" and names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", ["out", "old", "out.old"])
def test_a_directory_replaces_the_old_one(tmp_path, name):
    fill(tmp_path / name, a="1", b="2")
    with writing(tmp_path / name) as place:
        fill(place, c="3")
    assert names(tmp_path) == [name, f"{name}/c"]


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_failure_leaves_the_old_content(tmp_path, kind):
    path = tmp_path / "out"
    fill(path, a="1") if kind == "directory" else path.write_text("1")
    before = digest_tree(path)

    def fail() -> None:
        with writing(path) as place:
            fill(place, b="2") if kind == "directory" else place.write_text("2")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert digest_tree(path) == before and len(list(tmp_path.iterdir())) == 1


def test_a_failure_leaves_nothing_where_nothing_was(tmp_path):
    def stop() -> None:
        with writing(tmp_path / "out") as place:
            place.write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert names(tmp_path) == []


def test_a_failed_exchange_puts_the_old_directory_back(tmp_path, monkeypatch):
    fill(tmp_path / "out", a="1")
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if target == tmp_path / "out":
            raise OSError(errno.ENOSPC, "full")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match="no space"), writing(tmp_path / "out") as place:
        fill(place, b="2")
    assert names(tmp_path) == ["out", "out/a"]


THEN = "Give another output path with -o, or free this one; nothing was left behind."


def test_a_path_below_a_file_is_explained(tmp_path):
    (tmp_path / "file").write_text("x")
    path = tmp_path / "file" / "below" / "a.txt"
    with pytest.raises(UserError) as raised:
        write_text(path, "x")
    assert str(raised.value) == (
        f"{path}: cannot write: a file is where a directory should be. {THEN}"
    )


def test_a_file_over_a_directory_is_explained(tmp_path):
    fill(tmp_path / "out", a="1")
    with pytest.raises(UserError, match="cannot write: this path is a directory"):
        write_text(tmp_path / "out", "x")
    assert names(tmp_path) == ["out", "out/a"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_explained(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot write: permission denied"):
        write_text(tmp_path / "a.txt", "x")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "no space is left on the device"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EDQUOT, "the disk quota is used up"),
    ],
)
def test_what_the_system_says_is_explained(tmp_path, monkeypatch, code, reason):
    def fails(handle: int) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(UserError) as raised:
        write_text(tmp_path / "a.txt", "x")
    assert str(raised.value) == f"{tmp_path / 'a.txt'}: cannot write: {reason}. {THEN}"
    assert names(tmp_path) == []


def test_another_error_of_the_system_stays_itself(tmp_path):
    with pytest.raises(FileNotFoundError), explained_os_errors(tmp_path):
        (tmp_path / "absent").read_text()


@pytest.mark.parametrize(
    ("name", "ours"),
    [("out", True), ("out/x", True), (".out.ab12/x", True), ("", True),
     ("data/x.png", False), ("other", False), ("out2", False)],
)  # fmt: skip
def test_only_an_error_about_the_path_itself_is_explained(tmp_path, name, ours):
    error = PermissionError(errno.EACCES, "no", str(tmp_path / name))
    with (
        pytest.raises(UserError if ours else PermissionError),
        explained_os_errors(tmp_path / "out"),
    ):
        raise error


def test_equal_values_have_one_text():
    assert canonical_json({"b": [1, 2.5], "a": None}) == '{"a":null,"b":[1,2.5]}'
    assert digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_a_digest_names_content_and_names(tmp_path):
    fill(tmp_path / "one", a="1", b="2")
    fill(tmp_path / "two", b="2", a="1")
    fill(tmp_path / "three", a="1", c="2")
    one, two, three = (digest_tree(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two != three
    assert digest_tree(tmp_path / "one" / "a") == sha256_file(tmp_path / "one" / "a")


def test_bytes_are_counted_below_a_directory(tmp_path):
    fill(tmp_path / "one", a="123", b="4")
    assert tree_bytes(tmp_path / "one") == 4 and tree_bytes(tmp_path / "one" / "a") == 3
