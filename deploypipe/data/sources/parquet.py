"""A Parquet file with encoded images and integer labels, also as Hugging Face's datasets write it."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deploypipe.core.errors import UserError, did_you_mean
from deploypipe.data.pixels import decode
from deploypipe.data.source import Raw, Source, numbered


@dataclass(frozen=True)
class Parquet(Source):
    """Encoded images (a binary column, or a struct with ``bytes``) and integer labels in one file.

    Without ``column`` and ``label`` the columns are found by their types; a file without an integer
    column has no labels.  Class names come from the metadata: ``classes`` (a JSON or comma list) or
    Hugging Face's ``ClassLabel``.  The encoded bytes are held in memory.
    """

    file: Path
    column: str | None = None
    label: str | None = None

    def ids(self) -> Sequence[str]:
        return self._ids

    def digests(self) -> Sequence[str]:
        return self._digests

    def read(self, indices: Sequence[int]) -> Raw:
        pairs = [(self._ids[index], self._encoded[index].as_py()) for index in indices]
        return Raw(images=[decode(encoded, name) for name, encoded in pairs])

    def labels(self) -> np.ndarray | None:
        if self._label is None:
            return None
        values = self._table.column(self._label)
        self._refuse_nulls(values, self._label)
        return np.asarray(values.to_numpy(), np.int64)

    @property
    def classes(self) -> tuple[str, ...] | None:
        metadata = self._table.schema.metadata or {}
        if b"classes" in metadata:
            return _listed(metadata[b"classes"].decode())
        names = self._features.get(self._label or "", {}).get("names")
        return tuple(map(str, names)) if isinstance(names, list) else None

    @functools.cached_property
    def _ids(self) -> tuple[str, ...]:
        return numbered(self.file.name, self._table.num_rows)

    @functools.cached_property
    def _digests(self) -> tuple[str, ...]:
        return tuple(hashlib.sha256(value.as_buffer()).hexdigest() for value in self._encoded)

    @functools.cached_property
    def _schema(self) -> Any:
        try:
            return pq.read_schema(self.file)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error

    @functools.cached_property
    def _table(self) -> Any:
        """The image and the label column."""
        names = [name for name in (self._column, self._label) if name is not None]
        try:
            return pq.read_table(self.file, columns=names)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error

    @functools.cached_property
    def _encoded(self) -> Any:
        """The encoded images as a binary array without nulls."""
        column = self._table.column(self._column)
        if pa.types.is_struct(column.type):
            column = pc.struct_field(column, "bytes")
        self._refuse_nulls(column, self._column)
        return column

    @functools.cached_property
    def _column(self) -> str:
        if self.column is not None:
            return self._named(self.column, "column", _holds_images, "encoded images")
        found = [field.name for field in self._schema if _holds_images(field.type)]
        if len(found) == 1:
            return str(found[0])
        if not found:
            raise UserError(
                f"no column holds encoded images (binary, or a struct with bytes); "
                f"it has {self._columns()}",
                where=str(self.file),
            )
        raise self._ambiguous("encoded images", found, "column")

    @functools.cached_property
    def _label(self) -> str | None:
        if self.label is not None:
            return self._named(self.label, "label", pa.types.is_integer, "integers")
        found = [field.name for field in self._schema if pa.types.is_integer(field.type)]
        declared = [name for name in found if "names" in self._features.get(name, {})]
        called = [name for name in found if name == "label"]
        for choice in (found, declared, called):
            if len(choice) == 1:
                return str(choice[0])
        if not found:
            return None
        raise self._ambiguous("integers", found, "label")

    @functools.cached_property
    def _features(self) -> dict[str, Any]:
        """Hugging Face's description of the columns, by name."""
        try:
            told = json.loads((self._schema.metadata or {}).get(b"huggingface", b"{}"))
            features = told.get("info", {}).get("features", {})
        except (ValueError, AttributeError):  # not Hugging Face's; the types decide
            return {}
        return {k: v for k, v in features.items() if isinstance(v, dict)}

    def _named(self, name: str, option: str, fits: Callable[[Any], bool], what: str) -> str:
        if name not in self._schema.names:
            hint = did_you_mean(name, self._schema.names)
            raise UserError(f"there is no column '{name}', {hint}", where=f"{self.file} ({option})")
        kind = self._schema.field(name).type
        if not fits(kind):
            raise UserError(
                f"column '{name}' holds {kind}, expected {what}", where=f"{self.file} ({option})"
            )
        return name

    def _ambiguous(self, what: str, found: Sequence[str], option: str) -> UserError:
        return UserError(
            f"several columns hold {what}: {', '.join(found)}",
            where=str(self.file),
            then=f"Name one: {{parquet: {{file: {self.file.name}, {option}: {found[0]}}}}}",
        )

    def _refuse_nulls(self, values: Any, column: str) -> None:
        if values.null_count:
            row = pc.index(values.is_null(), True).as_py()
            raise UserError(
                f"column '{column}' is empty ({values.null_count} such rows)", where=self._ids[row]
            )

    def _columns(self) -> str:
        return ", ".join(f"{field.name}: {field.type}" for field in self._schema) or "no columns"

    def _unreadable(self, error: Exception) -> UserError:
        return UserError(f"cannot be read as Parquet: {error}", where=str(self.file))


def _is_binary(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _holds_images(kind: Any) -> bool:
    if not pa.types.is_struct(kind):
        return _is_binary(kind)
    index = kind.get_field_index("bytes")
    return index >= 0 and _is_binary(kind.field(index).type)


def _listed(text: str) -> tuple[str, ...]:
    """``["a", "b"]`` or ``a,b``."""
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list):
        names = [name.strip() for name in text.split(",")]
    return tuple(map(str, names))
