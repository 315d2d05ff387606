"""Text from a CSV file, tokenized."""

from __future__ import annotations

import csv
import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tokenizers import Encoding, Tokenizer

from deploypipe.core.errors import UserError, did_you_mean
from deploypipe.core.files import Json, canonical_json, sha256_file
from deploypipe.data.source import Raw, Source, numbered

Column = int | str


@dataclass(frozen=True)
class Csv(Source):
    """Rows of text as ``input_ids`` and ``attention_mask``, int64, padded or cut to ``length``.

    One text column gives ``[N, length]``.  Several give ``[N, columns, length]``: one sample is one
    row with one label, the layout of Hugging Face's multiple-choice models, so that an encoder of
    single texts sees ``[N * columns, length]`` after a reshape.  With ``join``, two columns become one
    sequence by the tokenizer's pair template, ``[N, length]``, as a cross-encoder takes them;
    ``type_ids`` adds ``token_type_ids``.

    ``text`` and ``label`` are column numbers from 0, or names of the header.  ``header: auto`` sees a
    header where a column is given by name, or where the first label is none.  Labels are int64 where
    all are whole numbers written as such, else float64; with ``classes`` they are names out of it.
    ``tokenizer`` is a ``tokenizer.json``; without it, the one beside the CSV file.
    """

    file: Path
    tokenizer: Path | None = None
    text: Column | list[Column] = 0
    label: Column | None = None
    header: bool | Literal["auto"] = "auto"
    length: int = 128
    join: bool = False
    type_ids: bool = False
    classes: tuple[str, ...] | None = None
    delimiter: str = ","

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length must be at least 1, got {self.length}")
        if not self._texts:
            raise ValueError("text must name at least one column")
        if self.join and len(self._texts) != 2:
            raise ValueError(f"join takes two text columns, got {len(self._texts)}")
        if len(self.delimiter) != 1:
            raise ValueError(f"delimiter must be one character, got {self.delimiter!r}")

    def ids(self) -> Sequence[str]:
        return self._ids

    def digests(self) -> Sequence[str]:
        texts = (canonical_json([row[c] for c in self._text_columns]) for row in self._rows)
        return tuple(hashlib.sha256(text.encode()).hexdigest() for text in texts)

    def read(self, indices: Sequence[int]) -> Raw:
        encodings = self._encode([self._rows[index] for index in indices])
        shape = [len(indices), len(self._texts), self.length]
        if self.join or len(self._texts) == 1:
            shape = [len(indices), self.length]
        parts = {"input_ids": "ids", "attention_mask": "attention_mask"}
        parts |= {"token_type_ids": "type_ids"} if self.type_ids else {}
        return Raw(inputs={name: _table(encodings, p).reshape(shape) for name, p in parts.items()})

    def labels(self) -> np.ndarray | None:
        if self._label_column is None:
            return None
        values = [row[self._label_column].strip() for row in self._rows]
        if self.classes is not None:
            return np.array([self._class(v, i) for i, v in enumerate(values)], np.int64)
        try:
            return np.array([self._whole(v, i) for i, v in enumerate(values)], np.int64)
        except ValueError:
            return np.array([self._number(v, i) for i, v in enumerate(values)], np.float64)

    def settings(self) -> Json:
        return {
            "tokenizer": sha256_file(self._tokenizer_file),
            "length": self.length,
            "join": self.join,
            "type_ids": self.type_ids,
        }

    @property
    def _texts(self) -> list[Column]:
        return self.text if isinstance(self.text, list) else [self.text]

    @functools.cached_property
    def _ids(self) -> tuple[str, ...]:
        return numbered(self.file.name, len(self._rows))

    @functools.cached_property
    def _lines(self) -> list[list[str]]:
        try:
            with self.file.open(encoding="utf-8-sig", newline="") as file:
                return [row for row in csv.reader(file, delimiter=self.delimiter) if row]
        except (csv.Error, UnicodeDecodeError, OSError) as error:
            raise UserError(f"cannot be read as CSV: {error}", where=str(self.file)) from error

    @functools.cached_property
    def _rows(self) -> list[list[str]]:
        """The rows below the header, each wide enough for the columns in use."""
        rows = self._lines[1:] if self._has_header else self._lines
        columns = [*self._text_columns, *([] if self.label is None else [self._label_column])]
        width = 1 + max(column for column in columns if column is not None)
        for number, row in enumerate(rows):
            if len(row) < width:
                raise UserError(
                    f"has {len(row)} columns, at least {width} are needed",
                    where=numbered(self.file.name, number + 1)[-1],
                )
        return rows

    @functools.cached_property
    def _has_header(self) -> bool:
        if self.header != "auto":
            return self.header
        if any(isinstance(column, str) for column in (*self._texts, self.label)):
            return True
        first = self._lines[0] if self._lines else []
        if not isinstance(self.label, int) or self.label >= len(first):
            return False
        cell = first[self.label].strip()
        return cell not in self.classes if self.classes is not None else not _is_number(cell)

    @functools.cached_property
    def _text_columns(self) -> list[int]:
        return [self._index(column) for column in self._texts]

    @functools.cached_property
    def _label_column(self) -> int | None:
        return None if self.label is None else self._index(self.label)

    def _index(self, column: Column) -> int:
        if isinstance(column, int):
            if column < 0:
                raise UserError(f"columns count from 0, got {column}", where=str(self.file))
            return column
        names = self._lines[0] if self._has_header and self._lines else []
        if column not in names:
            hint = did_you_mean(column, names)
            raise UserError(f"there is no column '{column}', {hint}", where=str(self.file))
        return names.index(column)

    def _class(self, value: str, row: int) -> int:
        names = self.classes or ()
        if value not in names:
            raise UserError(
                f"unknown class '{value}', {did_you_mean(value, names)}", where=self._ids[row]
            )
        return names.index(value)

    def _whole(self, value: str, row: int) -> int:
        if not -(2**63) <= (number := int(value)) < 2**63:
            raise UserError(
                f"the label '{value}' is larger than 64 bits can hold",
                where=self._ids[row],
                then="Name another column as the label, or mend the row",
            )
        return number

    def _number(self, value: str, row: int) -> float:
        if not _is_number(value):
            raise UserError(
                f"the label '{value}' is no number",
                where=self._ids[row],
                then="Name the classes in order with the option 'classes', or mend the row",
            )
        return float(value)

    @property
    def _tokenizer_file(self) -> Path:
        return self.tokenizer or self.file.parent / "tokenizer.json"

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        path = self._tokenizer_file
        if not path.is_file():
            raise UserError(
                f"no tokenizer at {path}",
                where=str(self.file),
                then="Set the option 'tokenizer' to the model's tokenizer.json",
            )
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises Exception itself
            raise UserError(f"cannot be read as a tokenizer: {error}", where=str(path)) from error
        padding = {**_padding(tokenizer), "length": self.length, "pad_to_multiple_of": None}
        tokenizer.enable_padding(**padding)
        tokenizer.enable_truncation(self.length)
        return tokenizer

    def _encode(self, rows: Sequence[Sequence[str]]) -> list[Encoding]:
        texts = [[row[column] for column in self._text_columns] for row in rows]
        if self.join:
            return self._tokenizer.encode_batch([(first, second) for first, second in texts])
        return self._tokenizer.encode_batch([text for row in texts for text in row])


def _padding(tokenizer: Tokenizer) -> dict[str, object]:
    """The tokenizer's own padding; one without any pads with its ``[PAD]`` or ``<pad>``."""
    if tokenizer.padding:
        return dict(tokenizer.padding)
    for token in ("[PAD]", "<pad>"):
        number = tokenizer.token_to_id(token)
        if number is not None:
            return {"pad_token": token, "pad_id": number}
    return {}


def _table(encodings: Sequence[Encoding], part: str) -> np.ndarray:
    return np.array([getattr(encoding, part) for encoding in encodings], np.int64)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
