"""Golden answers: recorded inputs and outputs that every copy of a bundle must reproduce."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deploypipe.core.errors import IntegrityError, UserError
from deploypipe.core.tensors import TensorSpec, check_feeds, fixed_batch

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Run = Callable[[Arrays], Arrays]


def check_goldens(
    feeds: Arrays,
    answers: Arrays,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> None:
    """Raise a user's error where golden arrays and the model's interface do not fit each other."""
    rows = {len(array) if array.ndim else 0 for array in (*feeds.values(), *answers.values())}
    if len(rows) != 1 or 0 in rows:
        raise UserError(f"golden arrays need one equal number of rows, got {sorted(rows)}")
    check_feeds(feeds, [free_rows(spec) for spec in inputs], "golden inputs")
    names = {spec.name for spec in outputs}
    if set(answers) != names:
        raise UserError(f"golden outputs are {sorted(answers)}, the model has {sorted(names)}")
    odd = [name for name, array in {**feeds, **answers}.items() if array.dtype.kind not in "fiub"]
    if odd:
        raise UserError(f"golden array '{odd[0]}' holds no numbers that .npz can keep")
    broken = [name for name, array in answers.items() if not np.isfinite(array).all()]
    if broken:
        raise UserError(f"golden outputs '{broken[0]}' hold NaN or infinite values")


def free_rows(spec: TensorSpec) -> TensorSpec:
    """The spec for any number of rows: a fixed batch is fed in steps."""
    return TensorSpec(spec.name, spec.dtype, ("?", *spec.shape[1:]))


def write_goldens(path: Path, feeds: Arrays, answers: Arrays) -> None:
    """Write an uncompressed .npz; equal arrays give equal bytes, dates are not recorded."""
    arrays = {f"input.{k}": v for k, v in feeds.items()}
    arrays |= {f"output.{k}": v for k, v in answers.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in sorted(arrays.items()):
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def read_goldens(path: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs and outputs of a golden file.

    Raises:
        IntegrityError: it is not what :func:`write_goldens` writes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if any(m.compress_type != zipfile.ZIP_STORED for m in archive.infolist()):
                raise ValueError("its arrays are compressed")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, KeyError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise IntegrityError(f"not a golden file: {error}", where=path.name) from error
    feeds = {k.removeprefix("input."): v for k, v in arrays.items() if k.startswith("input.")}
    answers = {k.removeprefix("output."): v for k, v in arrays.items() if k.startswith("output.")}
    return feeds, answers


def answer(run: Run, feeds: Arrays, step: int | None) -> dict[str, Array]:
    """All rows' outputs, ``step`` rows at a time (a fixed batch), or all at once."""
    rows = len(next(iter(feeds.values())))
    step = step or rows
    parts = [run({k: v[i : i + step] for k, v in feeds.items()}) for i in range(0, rows, step)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def step_of(inputs: Sequence[TensorSpec], rows: int) -> int | None:
    """Rows per run: the model's fixed batch if it has one that divides ``rows``."""
    fixed = fixed_batch(inputs)
    if fixed and rows % fixed:
        raise UserError(f"{rows} golden samples do not fill the model's batches of {fixed}")
    return fixed


def relative_difference(expected: Array, given: Array) -> float:
    """Largest difference relative to the range of ``expected``; ``inf`` for another shape.

    Of whole numbers and booleans, which may be ids, it is the share of values that differ.
    """
    if expected.shape != given.shape or not np.isfinite(given).all():
        return float("inf")
    if expected.dtype.kind != "f":
        return float((expected != given).mean())
    a, b = expected.astype(np.float64), given.astype(np.float64)
    span = float(a.max() - a.min()) or float(np.abs(a).max()) or 1.0
    return float(np.abs(a - b).max()) / span


def flipped(expected: Array, given: Array) -> int:
    """How many rows have their largest value elsewhere."""
    return int((expected.argmax(axis=-1) != given.argmax(axis=-1)).sum())
