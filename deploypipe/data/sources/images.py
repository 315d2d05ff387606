"""A folder of images: a folder per class, or loose images without labels."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploypipe.core.errors import UserError
from deploypipe.core.files import sha256_file
from deploypipe.data.pixels import decode
from deploypipe.data.source import Raw, Source

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)


@dataclass(frozen=True)
class Images(Source):
    """Images in one folder per class, sorted by name; the id is the path inside the folder.

    A folder without folders, only with images, gives samples without labels.  Files that are no
    images by their suffix are left out and noted; hidden files and folders are left out.
    """

    folder: Path

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise ValueError(f"expected a folder, {self.folder} is a file")

    def ids(self) -> Sequence[str]:
        return tuple(path.relative_to(self.folder).as_posix() for path in self._files)

    def digests(self) -> Sequence[str]:
        return self._digests

    def read(self, indices: Sequence[int]) -> Raw:
        return Raw(images=[self._decoded(self._files[index]) for index in indices])

    def labels(self) -> np.ndarray | None:
        if self.classes is None:
            return None
        number = {name: label for label, name in enumerate(self.classes)}
        names = [path.relative_to(self.folder).parts[0] for path in self._files]
        return np.array([number[name] for name in names], np.int64)

    @property
    def classes(self) -> tuple[str, ...] | None:
        return tuple(path.name for path in self._class_folders) or None

    def notes(self) -> list[str]:
        used = {path.relative_to(self.folder).parts[0] for path in self._files}
        empty = [path.name for path in self._class_folders if path.name not in used]
        notes = [f"class folders without images: {', '.join(empty)}"] if empty else []
        if self._others:
            names = [path.relative_to(self.folder).as_posix() for path in self._others]
            told = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            notes.append(f"left out as no images of a class: {len(names)} files ({told})")
        return notes

    @functools.cached_property
    def _class_folders(self) -> list[Path]:
        return [path for path in sorted(self.folder.iterdir()) if path.is_dir() and _seen(path)]

    @functools.cached_property
    def _found(self) -> list[Path]:
        """All files that count, sorted; below the class folders at any depth."""
        found = [path for path in sorted(self.folder.iterdir()) if path.is_file()]
        for folder in self._class_folders:
            found += [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return [path for path in found if _seen(path)]

    @functools.cached_property
    def _files(self) -> list[Path]:
        deep = 2 if self._class_folders else 1
        images = [path for path in self._found if path.suffix.lower() in SUFFIXES]
        return [path for path in images if len(path.relative_to(self.folder).parts) >= deep]

    @functools.cached_property
    def _others(self) -> list[Path]:
        used = set(self._files)
        return [path for path in self._found if path not in used]

    @functools.cached_property
    def _digests(self) -> tuple[str, ...]:
        return tuple(sha256_file(path) for path in self._files)

    def _decoded(self, path: Path) -> np.ndarray:
        try:
            encoded = path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from error
        return decode(encoded, str(path))


def _seen(path: Path) -> bool:
    return not path.name.startswith(".")
