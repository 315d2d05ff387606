"""Finished stages on disk, by content: a result is whole, or it is not there.

    out/stages/03-prune-5f0c1a2b3c4d/
        artifact/        what the stage wrote
        artifact.json    its kind, notes, digest, seconds; written last

The folder is made under another name and renamed when everything is in it, so that a run that is
killed leaves nothing that could be taken for a result.  The key covers all that the result depends
on: the stage and its options, the input's and the reference's content, the data, the seed, the
target, the processor's instruction sets, and the versions that matter.
"""

from __future__ import annotations

import dataclasses
import fcntl
import importlib.metadata
import inspect
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deploypipe.core import options
from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.errors import UserError
from deploypipe.core.files import Json, digest_json, explained_os_errors, sha256_file
from deploypipe.core.local_imports import own_files
from deploypipe.data import Source
from deploypipe.runtime import TARGETS, Target, host
from deploypipe.stages import STAGES, Desk, Stage
from deploypipe.validate import Metric
from deploypipe.validate.verdict import Outcome

PACKAGES = ("deploypipe", "onnxruntime", "onnxruntime-gpu", "onnx")
"""Packages whose versions every result depends on."""


@dataclass(frozen=True)
class Entry:
    """A finished stage: what it gave, how long it took and when, in UTC."""

    artifact: Artifact
    seconds: float
    made: str
    options: Mapping[str, Json]


class Cache:
    """The finished stages of one output folder.  Use it in a ``with`` block: one run at a time.

    Raises:
        UserError: the folder cannot be written, or another run is using it.
    """

    def __init__(self, out: Path) -> None:
        self.out, self.stages = out, out / "stages"
        self._lock: int | None = None

    def __enter__(self) -> Cache:
        with explained_os_errors(self.out):
            self.stages.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.out / ".lock", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise UserError(
                "another run is using this folder",
                where=str(self.out),
                then="Wait for it, or give another folder with -o",
            ) from None
        for left in self.stages.glob(".making-*"):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        return self

    def __exit__(self, *error: object) -> None:
        if self._lock is not None:
            os.close(self._lock)  # the lock goes with it

    def find(self, name: str, key: str, parent: Artifact | None) -> Entry | None:
        """The finished stage with this key, if its content is still what it was.

        An undecided verdict is not taken: its advice is to measure again, and the next run does.
        """
        entry = self._read(name, key, parent)
        return None if entry is None or _undecided(entry.artifact) else entry

    def _read(self, name: str, key: str, parent: Artifact | None) -> Entry | None:
        folder = self._folder(name, key)
        try:
            text = json.loads((folder / "artifact.json").read_text())
            path = folder / "artifact" / text["file"]
            if text["key"] != key or not path.exists():
                return None
            data = [folder / "artifact" / file for file in text["data"]]
            how = {"parent": parent, "notes": text["notes"], "data": data}
            artifact = Artifact.of(Kind(text["kind"]), path, text["made_by"], **how)
            if artifact.digest != text["digest"]:
                return None
            return Entry(artifact, text["seconds"], text["made"], text["options"])
        except (OSError, ValueError, KeyError, TypeError):  # damaged: it is made again
            return None

    def make(self, name: str, key: str, stage: Stage, source: Artifact, desk: Desk) -> Entry:
        """Run a stage and keep what it gives."""
        with self._making(name, key) as folder:
            start = time.monotonic()
            desk = dataclasses.replace(desk, out=folder / "artifact")
            artifact = stage.run(source, desk)
            text = {
                "key": key,
                "kind": artifact.kind,
                "file": artifact.path.relative_to(desk.out).as_posix(),
                "data": [_inside(file, desk.out) for file in artifact.data],
                "made_by": artifact.made_by,
                "notes": dict(artifact.notes),
                "digest": artifact.digest,
                "seconds": round(time.monotonic() - start, 3),
                "made": datetime.now(UTC).isoformat(timespec="seconds"),
                "options": options.values_of(stage),
            }
            (folder / "artifact.json").write_text(json.dumps(text, indent=1))
        entry = self._read(name, key, source if source.digest else None)
        assert entry is not None, f"{name} changed while it was kept"
        return entry

    @contextmanager
    def _making(self, name: str, key: str) -> Iterator[Path]:
        folder = self.stages / f".making-{name}"
        final = self._folder(name, key)
        try:
            with explained_os_errors(self.out):
                (folder / "artifact").mkdir(parents=True)
                yield folder
                _sync(folder)
                if final.exists():  # damaged or undecided, or find() would have taken it
                    shutil.rmtree(final)
                folder.rename(final)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, name: str, key: str) -> Path:
        return self.stages / f"{name}-{key[:12]}"


def key_of(stage: Stage, source: Artifact, desk: Desk) -> str:
    """Hex sha256 over everything that the stage's result depends on."""
    reference = desk.reference
    facts = {
        "stage": STAGES.name_of(stage),
        "version": stage.version,
        "options": options.values_of(stage),
        "plugins": sorted(_plugins([stage, desk.target, *_sources(desk)])),
        "code": _model_code(stage, source),
        "source": [source.digest, source.kind],
        "ancestors": _digests(source) if stage.measures else [],
        "reference": reference.digest if reference else None,
        "teacher": _teacher(reference),
        "data": desk.data.digest,
        "target": TARGETS.spec(desk.target),
        "seed": desk.seed,
        "budget": dict(desk.budget) if stage.judges else None,
        "manifest": _manifest(source, desk) if stage.gives is Kind.BUNDLE else None,
        "versions": {name: _version(name) for name in (*PACKAGES, *stage.packages)},
        "flags": host()["flags"],  # they choose the kernels, and so what fuses and how it rounds
        "host": host() if stage.measures else None,
    }
    return digest_json(facts)


def _manifest(source: Artifact, desk: Desk) -> Json:
    """What a bundle's manifest tells beside its files; the same model may get another verdict."""
    verdict = digest_json(source.nearest("verdict"))
    return [desk.name, desk.data.classes, verdict, host()]


def _sources(desk: Desk) -> list[Source]:
    return [split.source for split in desk.data.splits.values()]


def _model_code(stage: Stage, source: Artifact) -> list[str]:
    """Content of the file that a torch model is built by, and of those it imports from its folder.

    It decides what the equal weights of an equal artifact compute.
    """
    if stage.takes is not Kind.TORCH:
        return []
    place = getattr(stage, "build", "")
    if source.digest:
        place = json.loads((source.path / "model.json").read_text())["build"]
    file = Path(place.rpartition(":")[0])
    known = file.suffix == ".py" and file.is_file()
    return list(map(sha256_file, own_files(file))) if known else []


def _plugins(thing: object) -> set[str]:
    """Content of the files from outside the package that things and their options come from."""
    if isinstance(thing, list | tuple):
        return set().union(*map(_plugins, thing))
    cls = type(thing)
    known = isinstance(thing, Stage | Target | Source) or cls in options.NAMES
    if not known and not dataclasses.is_dataclass(thing):
        return set()
    own = cls.__module__.partition(".")[0] == __package__
    file = None if own else inspect.getsourcefile(cls)
    files = [*(own_files(Path(file)) if file else []), *_named_files(thing)]
    found = set(map(sha256_file, files))
    return found | _plugins([getattr(thing, name) for name in options.model_of(cls).model_fields])


def _named_files(thing: object) -> list[Path]:
    """Files of the user's that an option names: the function of a metric."""
    return thing.files() if isinstance(thing, Metric) else []


def _undecided(artifact: Artifact) -> bool:
    verdict = artifact.notes.get("verdict") or {}
    return bool(verdict.get("outcome") == Outcome.UNDECIDED)


def _inside(file: Path, folder: Path) -> str:
    """The relative path; files of external data come with their links resolved."""
    return file.resolve().relative_to(folder.resolve()).as_posix()


def _digests(artifact: Artifact | None) -> list[str]:
    found = []
    while artifact is not None:
        found.append(artifact.digest)
        artifact = artifact.parent
    return found


def _teacher(reference: Artifact | None) -> str | None:
    torch = reference.ancestor(Kind.TORCH) if reference else None
    return torch.digest if torch else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
