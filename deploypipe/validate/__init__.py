"""Sessions + data -> measurements -> verdict.  Measuring, judging and printing are three things.

``interleave`` times, ``records`` and ``pairs`` ask, ``latency``, ``accuracy`` and ``drift``
compare, ``layers`` looks inside, ``judge`` decides.  A new metric is one new file in ``metrics/``
whose class derives from :class:`Metric`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from deploypipe.core import options
from deploypipe.core.errors import UserError
from deploypipe.core.shelf import Shelf

Estimator = Callable[[np.ndarray], np.ndarray]
"""Counts float64 [B, N], how often each of N samples was drawn in B draws -> the metric, [B]."""


class Metric(ABC):
    """What of each sample counts (``score``), and the number that all of them give (``total``)."""

    higher_is_better: ClassVar[bool] = True
    binary: ClassVar[bool] = False
    """Every sample is right (1) or wrong (0): paired proportions are compared exactly."""
    unit: ClassVar[str] = ""
    """``points`` only for a metric that lies in 0..1 before it is scaled."""
    scale: ClassVar[float] = 1.0
    """The metric times ``scale`` is in ``unit``: 100 for points."""
    of_reference: ClassVar[bool] = False
    """The labels are what the reference answers (:meth:`truth`), so that samples need none."""
    takes: ClassVar[str] = "outputs [N, ...] and labels [N, ...]"
    """The shapes that it fits, in words."""

    @abstractmethod
    def score(self, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """A row for each sample, float64 [N] or [N, k], for outputs [N, ...] and labels [N, ...].

        Raises:
            ValueError: the shapes are not what the metric takes; says which it takes.
        """

    def predict(self, outputs: np.ndarray) -> np.ndarray | None:
        """Predicted classes int64 [N], or None where the model predicts no class."""
        return None

    def truth(self, outputs: np.ndarray) -> np.ndarray:
        """Labels [N, ...] from the reference's outputs [N, ...], for a metric ``of_reference``."""
        raise NotImplementedError(f"{METRICS.name_of(self)} takes labels from samples")

    def estimator(self, rows: np.ndarray) -> Estimator:
        """The metric of samples that are drawn with repetition, for rows [N, k]; default: mean."""
        return of_means(rows, lambda means: means[:, 0])

    def total(self, rows: np.ndarray) -> float:
        """The metric of rows [N] or [N, k], each counted once."""
        table = rows.reshape(len(rows), -1)
        return float(self.estimator(table)(np.ones((1, len(rows))))[0])

    def files(self) -> list[Path]:
        """Files of the user's that decide what the metric gives."""
        return []

    def refuse(self, outputs: np.ndarray, labels: np.ndarray) -> ValueError:
        """The error for shapes that do not fit."""
        name = METRICS.name_of(self)
        got = f"{list(outputs.shape)} and {list(labels.shape)}"
        return ValueError(f"{name} takes {self.takes}, got {got}")


def of_means(features: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> Estimator:
    """Estimator of a ``function`` ([B, k] -> [B]) of the means of ``features`` [N, k]."""

    def estimate(counts: np.ndarray) -> np.ndarray:
        return function(counts @ features / counts.sum(axis=1, keepdims=True))

    return estimate


def one_by_one(function: Callable[[np.ndarray], float]) -> Estimator:
    """Estimator of a ``function`` of one draw's counts [N]."""

    def estimate(counts: np.ndarray) -> np.ndarray:
        return np.array([function(one) for one in counts])

    return estimate


class MetricShelf(Shelf[Metric]):
    """Metrics may be written in one text too: ``python:FILE.py:FUNCTION,whole=true``."""

    def split(self, spec: object, where: str = "") -> tuple[str, Mapping[str, Any]]:
        if not isinstance(spec, str) or ":" not in spec:
            return super().split(spec, where)
        name, _, argument = spec.partition(":")
        fields = options.model_of(self.get(name, where)).model_fields
        if not fields:
            raise UserError(f"'{name}' takes no argument, got '{argument}'", where=where or None)
        first, *rest = argument.split(",")
        if first.partition("=")[0].strip().isidentifier() and "=" in first:
            return name, _options([first, *rest], where)
        leading, field = next(iter(fields.items()))
        value = first if field.annotation is str else options.value_of(first)
        return name, {leading: value, **_options(rest, where)}

    def schema(self) -> dict[str, Any]:
        """JSON Schema of a spec: a name, ``name:argument,option=value``, or one with options."""
        bare = {
            "type": "string",
            "pattern": "^[a-z0-9-]+:.+$",
            "description": "python:FILE:FUNCTION or NAME:OPTION=VALUE,OPTION=VALUE",
        }
        return {"anyOf": [*super().schema()["anyOf"], bare]}


def _options(parts: Sequence[str], where: str) -> dict[str, Any]:
    then = "Separate options by commas: python:FILE.py:FUNCTION,whole=true"
    return options.given_in(parts, where, then)


METRICS: MetricShelf = MetricShelf("metric", "deploypipe.validate.metrics", Metric)
