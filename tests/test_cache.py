"""Finished stages on disk: found by all that they depend on, whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from deploypipe import cache as caches
from deploypipe.cache import Cache, key_of
from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.errors import UserError
from deploypipe.core.progress import Silent
from deploypipe.data import Split
from deploypipe.runtime import host
from deploypipe.runtime.targets.cpu import Cpu
from deploypipe.stages import Desk, Stage


@dataclass(frozen=True)
class Copy(Stage):
    """Writes ``text`` into a file."""

    text: str = "model"

    takes: ClassVar[Kind] = Kind.ONNX
    gives: ClassVar[Kind] = Kind.ONNX
    packages: ClassVar[tuple[str, ...]] = ("numpy",)
    notes: ClassVar[dict[str, object]] = {}

    def run(self, source: Artifact, desk: Desk) -> Artifact:
        path = desk.out / "model.onnx"
        path.write_text(self.text)
        data = path.with_name("weights.bin")
        data.write_text("weights")
        notes = {"changes": ["copied"], **self.notes}
        return Artifact.of(Kind.ONNX, path, "copy", source, notes, data=[data])


@dataclass(frozen=True)
class Fails(Copy):
    """Stops half-way."""

    code: int = errno.ENOSPC

    def run(self, source: Artifact, desk: Desk) -> Artifact:
        super().run(source, desk)
        raise OSError(self.code, os.strerror(self.code))


@dataclass(frozen=True)
class Measures(Copy):
    measures: ClassVar[bool] = True


class Judges(Measures):
    judges: ClassVar[bool] = True


@dataclass(frozen=True)
class Packs(Copy):
    gives: ClassVar[Kind] = Kind.BUNDLE


@dataclass(frozen=True)
class Undecided(Copy):
    notes: ClassVar[dict[str, object]] = {"verdict": {"outcome": "UNDECIDED"}}


@dataclass(frozen=True)
class Newer(Copy):
    version: ClassVar[int] = 2


Newer.__module__ = Measures.__module__ = Packs.__module__ = Copy.__module__


@dataclass(frozen=True)
class FakeData:
    digest: str = "data"
    classes: tuple[str, ...] | None = None
    splits: dict[str, Split] = dataclasses.field(default_factory=dict)


SOURCE = Artifact(Kind.ONNX, Path("model.onnx"), "source", digest="source")
DESK = Desk(Path(), FakeData(), None, Cpu(2), 0, Silent(), "mine", budget={"speedup": 2})


def changed(**changes):
    return key_of(Copy(), SOURCE, dataclasses.replace(DESK, **changes))


def test_equal_facts_give_the_same_key():
    assert key_of(Copy(), SOURCE, DESK) == key_of(Copy(), SOURCE, DESK)
    assert len(key_of(Copy(), SOURCE, DESK)) == 64


@pytest.mark.parametrize(
    "changes",
    [
        {"data": FakeData("other")},
        {"seed": 1},
        {"target": Cpu(1)},
        {"reference": SOURCE},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_desk_is_in_the_key(changes):
    assert changed(**changes) != changed()


@pytest.mark.parametrize("changes", [{"out": Path("x")}, {"progress": Silent()}])
def test_where_it_is_written_is_not_in_the_key(changes):
    assert changed(**changes) == changed()


def test_the_stage_its_options_and_its_version_are_in_the_key():
    keys = [key_of(stage, SOURCE, DESK) for stage in (Copy(), Copy("other"), Newer())]
    assert len(set(keys)) == 3


def test_the_source_is_in_the_key_by_content_not_by_place():
    elsewhere = dataclasses.replace(SOURCE, path=Path("x.onnx"), made_by="another", notes={"a": 1})
    assert key_of(Copy(), elsewhere, DESK) == key_of(Copy(), SOURCE, DESK)
    edited = dataclasses.replace(SOURCE, digest="edited")
    assert key_of(Copy(), edited, DESK) != key_of(Copy(), SOURCE, DESK)


@pytest.mark.parametrize(
    "package", ["numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "deploypipe"]
)
def test_the_versions_of_packages_and_our_own_are_in_the_key(monkeypatch, package):
    before = changed()
    monkeypatch.setattr(caches, "_version", lambda name: "99" if name == package else "1")
    first = changed()
    monkeypatch.setattr(caches, "_version", lambda name: "98" if name == package else "1")
    assert len({before, first, changed()}) == 3


def test_the_budget_matters_to_what_judges_and_the_machine_to_what_measures(monkeypatch):
    loose = dataclasses.replace(DESK, budget={"speedup": 1})
    for stage in (Copy(), Measures()):
        assert key_of(stage, SOURCE, loose) == key_of(stage, SOURCE, DESK)
    assert key_of(Judges(), SOURCE, loose) != key_of(Judges(), SOURCE, DESK)
    before = key_of(Copy(), SOURCE, DESK), key_of(Measures(), SOURCE, DESK)
    monkeypatch.setattr(caches, "host", lambda: {**host(), "cpu": "another"})
    assert key_of(Copy(), SOURCE, DESK) == before[0]
    assert key_of(Measures(), SOURCE, DESK) != before[1]


def test_the_instruction_sets_matter_to_every_result(monkeypatch):
    before = changed()
    monkeypatch.setattr(caches, "host", lambda: {**host(), "flags": ["amx_bf16"]})
    assert changed() != before


def test_the_ancestors_matter_to_what_measures():
    parent = dataclasses.replace(SOURCE, digest="parent")
    child = dataclasses.replace(SOURCE, parent=parent)
    assert key_of(Copy(), child, DESK) == key_of(Copy(), SOURCE, DESK)
    assert key_of(Measures(), child, DESK) != key_of(Measures(), SOURCE, DESK)


def test_the_name_only_matters_to_the_bundle():
    named = dataclasses.replace(DESK, name="yours")
    assert key_of(Copy(), SOURCE, named) == key_of(Copy(), SOURCE, DESK)
    assert key_of(Packs(), SOURCE, named) != key_of(Packs(), SOURCE, DESK)


def test_what_the_manifest_tells_matters_to_the_bundle(monkeypatch):
    def judged(outcome):
        validated = dataclasses.replace(SOURCE, notes={"verdict": {"outcome": outcome}})
        return dataclasses.replace(SOURCE, parent=validated)

    def keys(stage):
        yield key_of(stage, judged("PASS"), DESK)
        yield key_of(stage, judged("FAIL"), DESK)
        yield key_of(stage, judged("PASS"), dataclasses.replace(DESK, data=named))
        with monkeypatch.context() as patch:
            patch.setattr(caches, "host", lambda: {**host(), "cpu": "another"})
            yield key_of(stage, judged("PASS"), DESK)

    named = FakeData(classes=("cat", "dog"))
    assert len(set(keys(Packs()))) == 4
    assert len(set(keys(Copy()))) == 1


def test_the_teacher_is_in_the_key():
    def reference(digest):
        torch = Artifact(Kind.TORCH, Path(), "source", digest=digest)
        return dataclasses.replace(SOURCE, parent=torch)

    assert changed(reference=reference("a")) != changed(reference=reference("b"))


@pytest.fixture
def cache(tmp_path):
    with Cache(tmp_path / "out") as one:
        yield one


def make(cache, stage=None, key="k" * 64):
    return cache.make("01-copy", key, stage or Copy(), SOURCE, DESK)


def folder_of(cache):
    return cache.stages / f"01-copy-{'k' * 12}"


def test_what_was_made_is_found_again(cache):
    made = make(cache)
    found = cache.find("01-copy", "k" * 64, SOURCE)
    assert found == made
    assert found.artifact.path.read_text() == "model"
    assert found.artifact.path.parent.name == "artifact"
    assert found.artifact.notes == {"changes": ["copied"]}
    assert found.artifact.bytes == len("model" + "weights")
    assert found.artifact.parent == SOURCE
    assert found.options == {"text": "model"}


def test_an_undecided_verdict_is_made_again(cache):
    made = make(cache, Undecided())
    assert made.artifact.notes["verdict"] == {"outcome": "UNDECIDED"}
    assert cache.find("01-copy", "k" * 64, SOURCE) is None
    make(cache)
    assert cache.find("01-copy", "k" * 64, SOURCE).artifact.notes == {"changes": ["copied"]}


@pytest.mark.parametrize("place", ["here", "there"])
def test_a_folder_that_is_a_link_is_fine(tmp_path, monkeypatch, place):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").symlink_to(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    with Cache(Path(place)) as cache:
        assert make(cache) == cache.find("01-copy", "k" * 64, SOURCE)


def test_another_key_finds_nothing(cache):
    make(cache)
    assert cache.find("01-copy", "j" * 64, SOURCE) is None
    assert cache.find("01-copy", "k" * 12 + "j" * 52, SOURCE) is None
    assert cache.find("02-copy", "k" * 64, SOURCE) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "artifact" / "model.onnx").write_text("mode1"),
        lambda folder: (folder / "artifact" / "model.onnx").unlink(),
        lambda folder: (folder / "artifact" / "weights.bin").write_text("weight5"),
        lambda folder: (folder / "artifact" / "weights.bin").unlink(),
        lambda folder: (folder / "artifact.json").unlink(),
        lambda folder: (folder / "artifact.json").write_text('{"key": '),
        lambda folder: (folder / "artifact.json").write_text("{}"),
        lambda folder: (folder / "artifact.json").write_text("[]"),
        lambda folder: (folder / "artifact.json").write_bytes(b"\xff"),
        lambda folder: _edit(folder, kind="unknown"),
        lambda folder: _edit(folder, digest="0" * 64),
        lambda folder: _edit(folder, data=[]),
        lambda folder: _edit(folder, data=None),
    ],
)
def test_a_damaged_result_is_refused_and_made_again(cache, damage):
    made = make(cache)
    damage(folder_of(cache))
    assert cache.find("01-copy", "k" * 64, SOURCE) is None
    again = make(cache)
    assert again.artifact.digest == made.artifact.digest
    assert cache.find("01-copy", "k" * 64, SOURCE) == again


def _edit(folder, **changes):
    text = json.loads((folder / "artifact.json").read_text())
    (folder / "artifact.json").write_text(json.dumps({**text, **changes}))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "no space is left on the device"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EDQUOT, "the disk quota is used up"),
    ],
)
def test_a_disk_that_fails_is_explained_and_leaves_nothing(cache, code, reason):
    with pytest.raises(UserError, match=f"out: cannot write: {reason}"):
        make(cache, Fails(code=code))
    assert not list(cache.stages.iterdir())
    assert cache.find("01-copy", "k" * 64, SOURCE) is None


def test_a_stage_that_is_interrupted_leaves_nothing(cache):
    class Stops(Copy):
        def run(self, source, desk):
            super().run(source, desk)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(cache, Stops())
    assert not list(cache.stages.iterdir())


def test_what_a_killed_run_left_is_never_taken_and_goes(tmp_path):
    left = tmp_path / "out" / "stages" / ".making-01-copy"
    (left / "artifact").mkdir(parents=True)
    (left / "artifact" / "model.onnx").write_text("half")
    with Cache(tmp_path / "out") as cache:
        assert not left.exists()
        assert cache.find("01-copy", "k" * 64, SOURCE) is None
        assert make(cache).artifact.path.read_text() == "model"


def test_two_runs_at_once_are_refused(cache):
    with pytest.raises(UserError, match="out: another run is using this folder. Wait for it"):
        Cache(cache.out).__enter__()


def test_a_run_in_another_process_is_noticed(tmp_path):
    code = (
        "import sys, pathlib\nfrom deploypipe.cache import Cache\n"
        "with Cache(pathlib.Path(sys.argv[1])):\n    print('in', flush=True)\n    sys.stdin.read()"
    )
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=root, text=True, **pipes) as other:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(UserError, match="another run is using this folder"):
            Cache(tmp_path).__enter__()
        other.stdin.close()
    with Cache(tmp_path):
        pass


def test_the_folder_is_free_again_after_a_failure(tmp_path):
    with pytest.raises(RuntimeError), Cache(tmp_path):
        raise RuntimeError
    with Cache(tmp_path):
        pass


def test_a_place_that_cannot_be_written_is_explained(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/out: cannot write: a file is"):
        Cache(tmp_path / "file" / "out").__enter__()

    def refuse(*rest, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match="cannot write: the file system is read-only"):
        Cache(tmp_path / "out").__enter__()
