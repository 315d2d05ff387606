"""The value that flows through the pipeline: a model on disk, with its history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from deploypipe.core.files import Json, digest_tree, tree_bytes


class Kind(StrEnum):
    """What an artifact's path holds."""

    TORCH = "torch"  # a directory: model.json, weights.safetensors, masks.safetensors if pruned
    ONNX = "onnx"  # a file model.onnx; external data, if any, lies in the same directory
    BUNDLE = "bundle"  # a directory or a tar file with manifest.json


@dataclass(frozen=True)
class Artifact:
    """A model on disk.  Never edited; a stage writes a new one beside it.

    ``notes`` holds what the maker has to tell: ``changes`` and ``refusals`` (lists of sentences)
    and any other JSON.  ``digest`` names the content, external data included.
    """

    kind: Kind
    path: Path
    made_by: str
    parent: Artifact | None = None
    notes: Mapping[str, Json] = field(default_factory=dict)
    digest: str = ""

    @classmethod
    def of(
        cls,
        kind: Kind,
        path: Path,
        made_by: str,
        parent: Artifact | None = None,
        notes: Mapping[str, Json] | None = None,
    ) -> Artifact:
        """An artifact for what lies at ``path`` now."""
        return cls(kind, path, made_by, parent, dict(notes or {}), digest_tree(_whole(kind, path)))

    @property
    def bytes(self) -> int:
        """Bytes on disk, external data included."""
        return tree_bytes(_whole(self.kind, self.path))

    def ancestor(self, kind: Kind) -> Artifact | None:
        """The nearest of this artifact and its parents that is of ``kind``."""
        artifact: Artifact | None = self
        while artifact is not None and artifact.kind is not kind:
            artifact = artifact.parent
        return artifact


def _whole(kind: Kind, path: Path) -> Path:
    """An ONNX artifact that we wrote owns its directory, so that external data are counted."""
    owned = kind is Kind.ONNX and path.name == "model.onnx" and path.parent.name == "artifact"
    return path.parent if owned else path
