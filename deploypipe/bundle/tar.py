"""Tar files that are the same bytes for the same content, and are read without trust."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from deploypipe.bundle.manifest import LARGEST, NAME, Manifest
from deploypipe.core.errors import IntegrityError


def write_tar(folder: Path, path: Path) -> None:
    """Uncompressed, sorted by name; no times, owners or modes of this machine."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as tar:
        for file in files:
            member = tarfile.TarInfo(file.relative_to(folder).as_posix())
            member.size, member.mode, member.mtime = file.stat().st_size, 0o644, 0
            with file.open("rb") as content:
                tar.addfile(member, content)


def unpack(path: Path, folder: Path) -> None:
    """Write the files that a tar's manifest lists below ``folder``.

    Nothing is written that the manifest does not list with exactly that size, and no member
    decides where it goes: links, devices, directories and repeated names are refused.

    Raises:
        IntegrityError: the tar is damaged or holds anything else; names the member.
    """
    with _reading(path) as tar:
        members = _members(tar, path)
        (folder / NAME).write_bytes(_manifest_of(tar, members, path))
        manifest = Manifest.parse((folder / NAME).read_bytes(), str(path))
        for name, member in members.items():
            entry = manifest.entry(name)
            if name == NAME:
                continue
            if entry is None:
                raise IntegrityError(f"'{name}' is not listed in {NAME}", where=str(path))
            if member.size != entry.bytes:
                what = f"'{name}' has {member.size} bytes, {NAME} says {entry.bytes}"
                raise IntegrityError(what, where=str(path))
            _write(tar, member, folder / entry.path)


def holds_bundle(path: Path) -> bool:
    """Whether a file is a tar with a manifest, whole or not."""
    try:
        with tarfile.open(path, "r:") as tar:
            return any(member.name == NAME for member in tar)
    except (tarfile.TarError, EOFError, ValueError):
        return False


@contextmanager
def _reading(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, "r:") as tar:
            yield tar
    except (tarfile.TarError, EOFError, ValueError, UnicodeError) as error:
        raise IntegrityError(f"not a readable tar file: {error}", where=str(path)) from error


def _members(tar: tarfile.TarFile, path: Path) -> dict[str, tarfile.TarInfo]:
    members: dict[str, tarfile.TarInfo] = {}
    for member in tar:
        if not member.isreg() or member.issparse():
            raise IntegrityError(f"'{member.name}' is no plain file", where=str(path))
        if member.name in members:
            raise IntegrityError(f"'{member.name}' is there twice", where=str(path))
        members[member.name] = member
    for name in members:
        for above in map(str, PurePosixPath(name).parents):
            if above in members:
                raise IntegrityError(f"'{name}' lies below '{above}', a file", where=str(path))
    return members


def _manifest_of(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], path: Path) -> bytes:
    member = members.get(NAME)
    if member is None:
        raise IntegrityError(f"{NAME} is missing", where=str(path))
    if member.size > LARGEST:
        raise IntegrityError(f"{NAME} is too large: {member.size} bytes", where=str(path))
    content = tar.extractfile(member)
    return content.read() if content is not None else b""


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None  # only plain files come here
    with source, file.open("wb") as out:
        shutil.copyfileobj(source, out)
