"""The value that flows through the pipeline: a model on disk, with its history."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from deploypipe.core.files import Json, digest_json, digest_tree, sha256_file, tree_bytes


class Kind(StrEnum):
    """What an artifact's path holds."""

    TORCH = "torch"  # a directory: model.json, weights.safetensors, masks.safetensors if pruned
    ONNX = "onnx"  # a file; external data, if any, lie in files beside it
    BUNDLE = "bundle"  # a directory or a tar file with manifest.json


@dataclass(frozen=True)
class Artifact:
    """A model on disk.  Never edited; a stage writes a new one beside it.

    ``notes`` holds what the maker has to tell: ``changes`` and ``refusals`` (lists of sentences)
    and any other JSON.  ``data`` are the files of external data, in the order in which the model
    names them.  ``digest`` names the content, external data included.
    """

    kind: Kind
    path: Path
    made_by: str
    parent: Artifact | None = None
    notes: Mapping[str, Json] = field(default_factory=dict)
    digest: str = ""
    data: tuple[Path, ...] = ()

    @classmethod
    def of(
        cls,
        kind: Kind,
        path: Path,
        made_by: str,
        parent: Artifact | None = None,
        notes: Mapping[str, Json] | None = None,
        data: Collection[Path] = (),
    ) -> Artifact:
        """An artifact for what lies at ``path`` and in the files ``data`` now."""
        digest = digest_tree(path)
        if data:
            digest = digest_json([digest, *map(sha256_file, data)])
        return cls(kind, path, made_by, parent, dict(notes or {}), digest, tuple(data))

    @property
    def bytes(self) -> int:
        """Bytes on disk, external data included."""
        return sum(map(tree_bytes, (self.path, *self.data)))

    def ancestor(self, kind: Kind) -> Artifact | None:
        """The nearest of this artifact and its parents that is of ``kind``."""
        artifact: Artifact | None = self
        while artifact is not None and artifact.kind is not kind:
            artifact = artifact.parent
        return artifact

    def nearest(self, note: str) -> Json:
        """The note of this name from the nearest of this artifact and its parents, else None."""
        artifact: Artifact | None = self
        while artifact is not None and note not in artifact.notes:
            artifact = artifact.parent
        return artifact.notes[note] if artifact else None
