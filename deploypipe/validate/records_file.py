"""The table of both models on disk, and parts of it put together: each sample once, none missing.

A ``.npz`` of plain arrays; no pickle is written or read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from deploypipe.core.errors import UserError
from deploypipe.core.files import Json, writing
from deploypipe.data.arrays import NPZ_ERRORS
from deploypipe.validate import METRICS, Metric
from deploypipe.validate.pairs import Moved, Pairs, join, take

VERSION = 1
NAMED = 5
"""Ids that an error names."""

_AGAIN = "Write it again with `deploypipe validate --shard i/n --records FILE`"


@dataclass(frozen=True)
class Kept:
    """A table, or a part of one, and what it is of.

    ``expected`` are the ids of all samples of the evaluation, in order; a part's table has some of
    them.  ``data`` is the digest of them all.  ``models`` holds a row for ``reference`` and one for
    ``candidate``, each with its ``digest``.
    """

    pairs: Pairs
    expected: tuple[str, ...]
    data: str
    models: Mapping[str, Json] = field(default_factory=dict)
    first_nonfinite: str | None = None


def write_records(path: Path, kept: Kept) -> None:
    """Write the table, whole or not at all.

    Raises:
        UserError: the place cannot be written to.
    """
    header = {
        "version": VERSION,
        "metric": METRICS.spec(kept.pairs.metric),
        "data": kept.data,
        "models": dict(kept.models),
        "first_nonfinite": kept.first_nonfinite,
    }
    arrays: dict[str, Any] = {
        "header": np.frombuffer(json.dumps(header).encode(), np.uint8),
        "ids": np.array(kept.pairs.ids, np.str_),
        "expected": np.array(kept.expected, np.str_),
        **_columns(kept.pairs),
    }
    with writing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_records(path: Path, metric: Metric | None = None) -> Kept:
    """Read what :func:`write_records` wrote.

    A metric that is a function of the user's is not run because a file says so: it must be given.

    Raises:
        UserError: no such file, not such a file, one of another version, or scored by a function
            that is not ``metric``.
    """
    with _reading(path):
        header, arrays = _load(path)
        return _kept(header, arrays, _metric(header["metric"], metric, path))


def data_of_records(path: Path) -> str:
    """The digest of the samples of a file of records.

    Raises:
        UserError: as :func:`read_records`.
    """
    with _reading(path):
        return str(_load(path)[0]["data"])


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UserError("no such file", where=str(path), then=_AGAIN) from None
    except (*NPZ_ERRORS, KeyError, TypeError) as error:
        raise UserError("not a file of records", where=str(path), then=_AGAIN) from error


def _load(path: Path) -> tuple[dict[str, Json], dict[str, np.ndarray]]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(arrays.pop("header").tobytes())
    if header["version"] != VERSION:
        told = f"records of version {header['version']}, this deploypipe reads {VERSION}"
        raise UserError(told, where=str(path), then=_AGAIN)
    return header, arrays


def _metric(spec: Json, given: Metric | None, path: Path) -> Metric:
    name, options = METRICS.split(spec)
    if name != "python":
        return METRICS.build(spec, "metric")
    if given is None or METRICS.spec(given) != spec:
        function = options.get("function")
        raise UserError(
            f"scored by the function {function}, which is not run because a file names it",
            where=str(path),
            then=f"Give --metric python:{function}, if it is yours",
        )
    return given


def merge(parts: Mapping[str, Kept]) -> Kept:
    """The parts as one table in the order of the evaluation; keys are their files' names.

    Raises:
        UserError: the parts are not of one evaluation, an id is there twice, or one is missing.
    """
    kept = list(parts.values())
    first = kept[0]
    for name, one in parts.items():
        _check_same(first, one, next(iter(parts)), name)
    _check_complete(parts, first.expected)
    whole = join([one.pairs for one in kept])
    place = {name: row for row, name in enumerate(whole.ids)}
    return Kept(
        take(whole, [place[name] for name in first.expected]),
        first.expected,
        first.data,
        first.models,
        next((one.first_nonfinite for one in kept if one.first_nonfinite), None),
    )


def _columns(pairs: Pairs) -> dict[str, np.ndarray]:
    found = {f.name: getattr(pairs, f.name) for f in fields(Pairs)}
    found |= {f"moved.{f.name}": getattr(pairs.moved, f.name) for f in fields(Moved)}
    return {name: value for name, value in found.items() if isinstance(value, np.ndarray)}


def _kept(header: Mapping[str, Json], arrays: dict[str, np.ndarray], metric: Metric) -> Kept:
    ids, expected = (tuple(arrays.pop(name).tolist()) for name in ("ids", "expected"))
    moved = Moved(**{f.name: arrays.pop(f"moved.{f.name}") for f in fields(Moved)})
    optional = {"reference_predictions": None, "candidate_predictions": None}
    columns: dict[str, Any] = {**optional, **arrays}
    if any(len(column) != len(ids) for column in arrays.values()):
        raise ValueError("columns of different lengths")
    pairs = Pairs(metric=metric, ids=ids, moved=moved, **columns)
    return Kept(pairs, expected, header["data"], header["models"], header["first_nonfinite"])


def _check_same(first: Kept, other: Kept, first_name: str, name: str) -> None:
    facts = {
        "reference": [one.models.get("reference", {}).get("digest") for one in (first, other)],
        "candidate": [one.models.get("candidate", {}).get("digest") for one in (first, other)],
        "data": [one.data for one in (first, other)],
        "samples": [one.expected for one in (first, other)],
        "metric": [one.pairs.metric for one in (first, other)],
    }
    differing = [what for what, (a, b) in facts.items() if a != b]
    if differing:
        raise UserError(
            f"another {differing[0]} than in {first_name}",
            where=name,
            then="Only parts of one evaluation can be put together",
        )


def _check_complete(parts: Mapping[str, Kept], expected: Sequence[str]) -> None:
    files: dict[str, list[str]] = {}
    for name, one in parts.items():
        for id_ in one.pairs.ids:
            files.setdefault(id_, []).append(name)
    double = [
        f"{one} (in {', '.join(sorted(set(where)))})" for one, where in files.items() if where[1:]
    ]
    missing = [id_ for id_ in expected if id_ not in files]
    strange = list(files.keys() - set(expected))
    again = [id_ for id_, count in Counter(expected).items() if count > 1]
    for what, ids in (
        ("there twice", double or again),
        ("missing", missing),
        ("of no sample of the evaluation", strange),
    ):
        if ids:
            named = ", ".join(ids[:NAMED]) + (", ..." if len(ids) > NAMED else "")
            raise UserError(
                f"{len(ids)} of {len(expected)} ids are {what}: {named}",
                where="records",
                then="Give every part once: --shard 1/n to n/n of the same samples",
            )
