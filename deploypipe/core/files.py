"""Files that are whole or absent, and the digests that name them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploypipe.core.errors import UserError

Json = Any
"""A value that ``json.dumps`` takes as it is."""


def sha256_file(path: Path) -> str:
    """Hex sha256 of one file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_json(value: Json) -> str:
    """Hex sha256 of a value's canonical JSON (sorted keys, no spaces)."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def canonical_json(value: Json) -> str:
    """One text for equal values; NaN is refused, because it equals nothing."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_tree(path: Path) -> str:
    """Digest of a file's bytes, or of a directory's relative names and bytes."""
    if path.is_file():
        return sha256_file(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return digest_json([[p.relative_to(path).as_posix(), sha256_file(p)] for p in files])


def tree_bytes(path: Path) -> int:
    """Bytes on disk of a file, or of all files below a directory."""
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it over ``path`` only if the block succeeds.

    Works for a file and for a directory.  An interrupted block leaves ``path`` as it was.
    """
    path = Path(path)
    with explained_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    temporary = holder / path.name
    try:
        with explained_os_errors(path):
            yield temporary
            _sync(temporary)
            _replace(temporary, path)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _replace(temporary: Path, path: Path) -> None:
    if not (temporary.is_dir() and path.is_dir()):
        temporary.replace(path)
        return
    # A directory cannot be renamed over one that has content: the old one steps aside first.
    old = temporary.with_name(f"{path.name}.old")
    path.rename(old)
    try:
        temporary.replace(path)
    except BaseException:
        old.rename(path)
        raise


def _sync(path: Path) -> None:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    for file in files:
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def explained_os_errors(path: Path) -> Iterator[None]:
    """Turn "read-only", "no space", "no permission" about ``path`` into a user's error.

    An error about a file elsewhere, which the block may be reading, passes as it is.
    """
    reasons = {
        errno.EROFS: "the file system is read-only",
        errno.EACCES: "permission denied",
        errno.EPERM: "permission denied",
        errno.ENOSPC: "no space is left on the device",
        errno.EDQUOT: "the disk quota is used up",
        errno.ENOTDIR: "a file is where a directory should be",
        errno.EEXIST: "a file is in the way",
        errno.EISDIR: "this path is a directory",
        errno.ENOENT: "a folder above it does not exist and cannot be made",
    }
    try:
        yield
    except OSError as error:
        if error.errno not in reasons or not _concerns(error, path):
            raise
        raise UserError(
            f"cannot write: {reasons[error.errno]}",
            where=str(path),
            then="Give another output path with -o, or free this one; nothing was left behind",
        ) from error


def _concerns(error: OSError, path: Path) -> bool:
    """Whether an error names ``path``, its temporary files, or a folder above it; or nothing.

    A missing file below ``path`` is a mistake of ours, not of the user's.
    """
    if error.filename is None:
        return True
    named, whole = Path(os.fsdecode(error.filename)).absolute(), path.absolute()
    if error.errno == errno.ENOENT:
        return named == whole or named in whole.parents
    if named in whole.parents:
        return True
    if whole.parent not in named.parents:
        return False
    beside = named.relative_to(whole.parent).parts[0]
    return beside == whole.name or beside.startswith(f".{whole.name}.")
