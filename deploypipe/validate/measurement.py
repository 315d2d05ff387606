"""A measured quantity: all raw values; everything else is computed late."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploypipe.core.files import Json

P90_NEEDS, P99_NEEDS = 64, 662
"""Values below which these percentiles are not told: the early-stopping rule of MLPerf Inference
at 99 % confidence, with at least one value above the percentile."""


@dataclass(frozen=True)
class Measurement:
    """Raw values in ``unit`` and the environment that they were measured in."""

    label: str
    unit: str
    values: tuple[float, ...]
    environment: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError(f"the measurement '{self.label}' has no values")

    @property
    def n(self) -> int:
        """Number of values."""
        return len(self.values)

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def p50(self) -> float:
        return float(np.median(self.values))

    @property
    def p90(self) -> float | None:
        """None below 64 values, which cannot carry it."""
        return float(np.percentile(self.values, 90)) if self.n >= P90_NEEDS else None

    @property
    def p99(self) -> float | None:
        """None below 662 values, which cannot carry it."""
        return float(np.percentile(self.values, 99)) if self.n >= P99_NEEDS else None

    @property
    def spread(self) -> float:
        """Interquartile range, in ``unit``."""
        low, high = np.percentile(self.values, [25, 75])
        return float(high - low)

    def summary(self) -> dict[str, Json]:
        """p50, p90, p99 (None where the count does not carry them) and the count: a table's row."""
        return {"p50": self.p50, "p90": self.p90, "p99": self.p99, "n": self.n}

    def thinned(self, limit: int) -> list[float]:
        """At most ``limit`` of the values, evenly picked over the time of measuring."""
        if self.n <= limit:
            return list(self.values)
        picked = np.linspace(0, self.n - 1, limit).round().astype(int)
        return [self.values[i] for i in picked]
