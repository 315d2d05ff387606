"""The manifest: what a bundle holds, how to feed it and how to tell that it is whole."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from deploypipe.core.errors import IntegrityError
from deploypipe.core.files import Json, digest_json
from deploypipe.core.tensors import TensorSpec

NAME = "manifest.json"
LARGEST = 16 * 2**20
"""Bytes above which a manifest is not read."""


def safe_path(path: str) -> str:
    """A relative path that stays where it is put, on every system.

    Raises:
        ValueError: it does not.
    """
    plain = all(part and set(part) != {"."} for part in path.split("/"))
    allowed = all(c.isascii() and (c.isalnum() or c in "._-/") for c in path)
    if not plain or not allowed or len(path) > 100:
        raise ValueError(f"not a safe relative path: {path!r}")
    return path


SafePath = Annotated[str, AfterValidator(safe_path)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Role = Literal["model", "weights", "golden", "runner", "extra"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FileEntry(_Part):
    """One file of the bundle."""

    path: SafePath
    role: Role
    bytes: Annotated[int, Field(ge=0)]
    sha256: Digest


class Tensor(_Part):
    """A model input or output: numpy dtype name; a dynamic dimension is its symbol or ``?``."""

    name: str
    dtype: str
    shape: list[int | str]

    @classmethod
    def of(cls, spec: TensorSpec) -> Tensor:
        return cls(name=spec.name, dtype=spec.dtype, shape=list(spec.shape))


class Golden(_Part):
    """Recorded answers: arrays ``input.NAME`` and ``output.NAME`` of ``samples`` rows each.

    ``tolerance`` is the largest difference allowed, relative to the range of the output; of whole
    numbers and booleans, which may be ids, it is the share that may differ at all.  For the
    outputs in ``top1`` the position of the largest value must be the same as well.
    """

    file: SafePath
    samples: Annotated[int, Field(ge=1)]
    tolerance: Annotated[float, Field(gt=0)]
    top1: list[str]


class Manifest(_Part):
    """Everything about a bundle.  ``digest`` seals all other fields against damage.

    It does not seal them against an attacker, who can compute it as well: that takes a signature.
    """

    schema_version: Literal[1]
    name: str
    created_by: str
    model: SafePath
    inputs: list[Tensor]
    outputs: list[Tensor]
    preprocess: dict[str, JsonValue] | None
    classes: list[str] | None
    target: JsonValue
    providers: list[str]
    golden: Golden | None
    verdict: JsonValue
    environment: JsonValue
    files: list[FileEntry]
    digest: Digest

    @classmethod
    def seal(cls, **fields: Any) -> Self:
        """A manifest of the current version with its digest."""
        draft = cls.model_validate({"schema_version": 1, "digest": "0" * 64, **fields})
        return draft.model_copy(update={"digest": draft._digest()})

    @classmethod
    def parse(cls, content: bytes, where: str) -> Self:
        """Read a manifest file.

        Raises:
            IntegrityError: not what :meth:`text` wrote, down to the last byte.
        """
        try:
            manifest = cls.model_validate_json(content)
            whole = manifest.digest == manifest._digest() and manifest.text().encode() == content
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join(str(part) for part in first["loc"]) or "it"
            what = f"{NAME} does not follow its schema: {path}: {first['msg']}"
            raise IntegrityError(what.splitlines()[0], where=where) from None
        except ValueError:  # NaN and infinity pass the schema, but no digest was made of them
            whole = False
        if not whole:
            raise IntegrityError(f"{NAME} has been changed or damaged", where=where)
        return manifest

    def text(self) -> str:
        """The one way to write this manifest."""
        fields = self.model_dump(mode="json")
        return json.dumps(fields, indent=1, sort_keys=True, allow_nan=False) + "\n"

    def entry(self, path: str) -> FileEntry | None:
        """The entry of a file, None if it is not listed."""
        return next((entry for entry in self.files if entry.path == path), None)

    def _digest(self) -> str:
        return digest_json(self.model_dump(mode="json", exclude={"digest"}))


def json_schema() -> Json:
    """JSON Schema of ``manifest.json``."""
    return Manifest.model_json_schema()
