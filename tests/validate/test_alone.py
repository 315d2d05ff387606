"""One measurement at a time."""

import getpass
import subprocess
import sys
import tempfile

import pytest

from deploypipe.validate.alone import alone

TRY = """
import fcntl, pathlib, sys
with pathlib.Path(sys.argv[1]).open("a") as file:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_another_process_waits_until_the_block_ends(folder):
    pytest.importorskip("fcntl")

    def other():
        (lock,) = folder.iterdir()
        return subprocess.run(
            [sys.executable, "-c", TRY, str(lock)], capture_output=True
        ).returncode

    with alone():
        assert other() != 0
    assert other() == 0


def test_a_user_without_a_name_can_measure(monkeypatch):
    pytest.importorskip("pwd")

    def nameless():
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    with alone():
        pass


def test_a_file_that_is_linked_there_is_not_emptied(folder):
    with alone():
        (lock,) = folder.iterdir()
    lock.unlink()
    (folder / "mine").write_text("text")
    lock.symlink_to(folder / "mine")
    with alone():
        assert (folder / "mine").read_text() == "text"
