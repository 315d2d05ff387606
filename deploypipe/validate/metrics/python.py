"""A metric that is a function of the user's."""

from __future__ import annotations

import functools
import importlib
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from deploypipe.core.errors import DeploypipeError, UserError, did_you_mean
from deploypipe.core.local_imports import own_files
from deploypipe.core.shelf import load_file, started
from deploypipe.validate import Estimator, Metric, one_by_one
from deploypipe.validate.metrics.top1 import predicted_classes


@dataclass(frozen=True)
class Python(Metric):
    """What ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION`` returns for (outputs, labels).

    It returns a number for each sample, [N], whose mean is the metric; or with ``whole: true`` one
    number for all samples, and then each sample's outputs and labels are kept.  Both arguments are
    arrays with one entry per sample.  A relative path starts at the recipe's folder, or, on the
    command line, where that is called.
    """

    function: str
    higher_is_better: bool = True  # type: ignore[misc]
    unit: str = ""  # type: ignore[misc]
    scale: float = 1.0  # type: ignore[misc]
    whole: bool = False

    takes: ClassVar[str] = "what the function takes"

    def __post_init__(self) -> None:
        place, colon, name = self.function.rpartition(":")
        if not (place and colon and name):
            raise ValueError(f"expected FILE.py:FUNCTION or MODULE:FUNCTION, got '{self.function}'")
        if not self.scale > 0:
            raise ValueError(f"scale must be positive, got {self.scale}")
        assert self._function is not None  # loaded now, so that a typo is told before any work

    def files(self) -> list[Path]:
        return own_files(self._file) if self._file.suffix == ".py" else []

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        if self.whole:
            return _packed(outputs, labels)
        scores = self._call(outputs, labels)
        if scores.shape != (len(outputs),):
            raise ValueError(
                f"{self.function} returned {list(scores.shape)} for {len(outputs)} samples, not "
                "a number for each; set whole: true for one number over all"
            )
        return scores

    def predict(self, outputs: np.ndarray) -> np.ndarray | None:
        return predicted_classes(outputs)

    def estimator(self, rows: np.ndarray) -> Estimator:
        if not self.whole:
            return super().estimator(rows)
        outputs, labels = _unpacked(rows)

        def value(counts: np.ndarray) -> float:
            drawn = np.repeat(np.arange(len(rows)), counts.astype(np.int64))
            found = self._call(outputs[drawn], labels[drawn])
            if found.size != 1:
                raise UserError(f"returned {found.size} numbers, not one", where=self.function)
            return float(found.reshape(-1)[0])

        return one_by_one(value)

    def _call(self, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(self._function(outputs, labels), np.float64)
        except DeploypipeError:
            raise
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            raise UserError(
                f"raises {type(error).__name__}: {error}",
                where=self.function,
                then=f"See line {last.lineno} of {last.filename}",
            ) from error

    @functools.cached_property
    def _file(self) -> Path:
        return started(self.function.rpartition(":")[0])

    @functools.cached_property
    def _function(self) -> Callable[[np.ndarray, np.ndarray], Any]:
        place, _, name = self.function.rpartition(":")
        module = _module(place, self._file, self.function)
        function = getattr(module, name, None)
        if not callable(function):
            known = [key for key, value in vars(module).items() if callable(value)]
            hint = did_you_mean(name, [key for key in known if key[0] != "_"])
            raise UserError(f"{place} has no function '{name}', {hint}", where=self.function)
        return function  # type: ignore[no-any-return]


def _module(place: str, file: Path, where: str) -> ModuleType:
    if place.endswith(".py") or "/" in place:
        return load_file(file, where)
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        then = f"For a file, write {place}.py:FUNCTION"
        raise UserError(f"no module '{error.name}'", where=where, then=then) from error


def _packed(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows (rank and sizes of an output, rank and sizes of a label, both flat)."""
    n = len(outputs)
    shapes = [float(x) for a in (outputs, labels) for x in (a.ndim - 1, *a.shape[1:])]
    head = np.broadcast_to(np.array(shapes), (n, len(shapes)))
    flat = [a.reshape(n, -1).astype(np.float64) for a in (outputs, labels)]
    return np.hstack([head, *flat])


def _unpacked(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sizes: list[tuple[int, ...]] = []
    place = 0
    for _ in range(2):
        rank = int(rows[0, place])
        sizes.append(tuple(int(x) for x in rows[0, place + 1 : place + 1 + rank]))
        place += 1 + rank
    split = place + int(np.prod(sizes[0]))
    parts = rows[:, place:split], rows[:, split:]
    outputs, labels = (p.reshape(len(rows), *s) for p, s in zip(parts, sizes, strict=True))
    return outputs, labels
