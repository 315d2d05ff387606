"""Is a bundle what its manifest says, and does it still answer as it did?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from deploypipe.bundle import golden as goldens
from deploypipe.bundle.golden import Arrays
from deploypipe.bundle.manifest import LARGEST, NAME, FileEntry, Golden, Manifest
from deploypipe.bundle.tar import unpack
from deploypipe.core.errors import IntegrityError, UserError
from deploypipe.core.files import sha256_file
from deploypipe.core.tensors import TensorSpec


class Answering(Protocol):
    """What a session must do."""

    def __call__(self, feeds: Arrays, /) -> Arrays: ...


OpenSession = Callable[[Path], AbstractContextManager[Answering]]


def verify(bundle: Path, open_session: OpenSession | None = None) -> list[str]:
    """Check a bundle; what was checked, one sentence each.

    The manifest follows its schema and its own digest; every file it lists has that size and
    sha256, and there is no other; with ``open_session`` (such as a target's ``open``), the golden
    inputs give the golden outputs.

    Raises:
        IntegrityError: anything else; names the file.
        UserError: there is no bundle at that path.
    """
    with opened(bundle) as (folder, manifest):
        size = sum(entry.bytes for entry in manifest.files)
        findings = [f"{len(manifest.files)} files, {size} bytes: all as listed in {NAME}"]
        if manifest.golden is None:
            return [*findings, "no golden answers are recorded"]
        if open_session is None:
            return [*findings, "golden answers were not tried: no runtime was asked for"]
        return [*findings, *_replay(folder, manifest, manifest.golden, bundle, open_session)]


def read_manifest(bundle: Path) -> Manifest:
    """The manifest of a bundle whose files have been checked.

    Raises:
        IntegrityError, UserError: as :func:`verify`.
    """
    with opened(bundle) as (_, manifest):
        return manifest


@contextmanager
def opened(bundle: Path) -> Iterator[tuple[Path, Manifest]]:
    """A checked bundle as a directory with its manifest; a tar is unpacked to a temporary one."""
    bundle = Path(bundle)
    if not bundle.exists():
        raise UserError("no such bundle", where=str(bundle), then="Give a directory or a .tar file")
    if bundle.is_dir():
        yield bundle, _checked(bundle, bundle)
        return
    with tempfile.TemporaryDirectory(prefix="deploypipe-") as temporary:
        folder = Path(temporary)
        unpack(bundle, folder)
        yield folder, _checked(folder, bundle)


def _checked(folder: Path, bundle: Path) -> Manifest:
    manifest = _read(folder, bundle)
    paths = [entry.path for entry in manifest.files]
    if len(set(paths)) != len(paths) or NAME in paths or manifest.model not in paths:
        raise IntegrityError(f"{NAME} lists a file twice or not at all", where=str(bundle))
    for entry in manifest.files:
        _check_file(folder, entry, bundle)
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        plain_folder = file.is_dir() and not file.is_symlink()
        if not plain_folder and name != NAME and name not in paths:
            raise IntegrityError(f"'{name}' is not listed in {NAME}", where=str(bundle))
    return manifest


def _read(folder: Path, bundle: Path) -> Manifest:
    file = folder / NAME
    if file.is_symlink() or not file.is_file():
        raise IntegrityError(f"{NAME} is missing", where=str(bundle))
    if file.stat().st_size > LARGEST:
        raise IntegrityError(f"{NAME} is too large", where=str(bundle))
    return Manifest.parse(file.read_bytes(), str(bundle))


def _check_file(folder: Path, entry: FileEntry, bundle: Path) -> None:
    file = folder / entry.path
    inside = file.resolve() == folder.resolve() / entry.path  # so no part of it is a link
    if not file.is_file() and not file.is_symlink():
        raise IntegrityError(f"'{entry.path}' is missing", where=str(bundle))
    if not inside or not file.is_file():
        raise IntegrityError(f"'{entry.path}' is a link, not a file", where=str(bundle))
    size = file.stat().st_size
    if size != entry.bytes:
        what = f"'{entry.path}' has {size} bytes, {NAME} says {entry.bytes}"
        raise IntegrityError(what, where=str(bundle))
    if sha256_file(file) != entry.sha256:
        what = f"'{entry.path}' is not the file that was packed: its sha256 differs"
        raise IntegrityError(what, where=str(bundle))


def _replay(
    folder: Path,
    manifest: Manifest,
    golden: Golden,
    bundle: Path,
    open_session: OpenSession,
) -> Iterator[str]:
    if manifest.entry(golden.file) is None:
        raise IntegrityError(f"'{golden.file}' is missing", where=str(bundle))
    feeds, expected = goldens.read_goldens(folder / golden.file)
    rows = {array.shape[:1] for array in (*feeds.values(), *expected.values())}
    named = set(expected) == {output.name for output in manifest.outputs}
    if not feeds or not named or rows != {(golden.samples,)}:
        raise IntegrityError(f"'{golden.file}' does not fit the model", where=str(bundle))
    inputs = [TensorSpec(t.name, t.dtype, tuple(t.shape)) for t in manifest.inputs]
    with open_session(folder / manifest.model) as session:
        given = goldens.answer(session, feeds, goldens.step_of(inputs, golden.samples))
    for name, array in expected.items():
        difference = goldens.relative_difference(array, given[name])
        flips = goldens.flipped(array, given[name]) if name in golden.top1 else 0
        told = f"output '{name}' of {golden.samples} golden samples differs by {difference:.2g}"
        measure = "range" if array.dtype.kind == "f" else "values"
        told += f" of its {measure} (allowed {golden.tolerance:.2g})"
        told += f", {flips} largest values moved" if name in golden.top1 else ""
        if difference > golden.tolerance or flips:
            then = "The files are as packed; this machine's runtime answers differently"
            raise IntegrityError(f"'{manifest.model}': {told}", where=str(bundle), then=then)
        yield told
