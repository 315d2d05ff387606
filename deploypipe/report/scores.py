"""The metric in words: shares as per cent and points, other units as they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deploypipe.report import words
from deploypipe.report.schema import Report


@dataclass(frozen=True)
class Score:
    """How the run's metric is read; a drop is a loss whichever way the metric counts.

    The metric times ``scale`` is in ``unit``.
    """

    name: str
    unit: str = "points"
    higher_is_better: bool = True
    scale: float = 100.0

    @classmethod
    def of(cls, report: Report) -> Score:
        """The metric of a report; accuracy where none was measured."""
        paired = report.accuracy
        if paired is None:
            return cls("accuracy")
        scale = paired.scale or (100.0 if paired.unit == "points" else 1.0)
        return cls(words.plain(paired.metric, 40), paired.unit, paired.higher_is_better, scale)

    def value(self, value: float | None) -> str:
        """91.72 % for a share, 0.0123 squared error for an error."""
        if value is None:
            return words.NOTHING
        if self.unit == "points":
            return words.percent(value * self.scale / 100)
        return words.quantity(value * self.scale, self.unit)

    def change(self, drop: float) -> str:
        """The candidate minus the reference, with its sign."""
        return words.quantity(self._sign * drop, self.unit, signed=True)

    def change_interval(self, low: float, high: float) -> str:
        """The interval of a drop as one of the change."""
        first, last = sorted((self._sign * low, self._sign * high))
        return words.interval(first, last, self.unit, signed=True)

    def drop(self, before: float, after: float) -> float:
        """How much worse ``after`` is, in the unit."""
        return self._sign * (after - before) * self.scale

    def tick(self, value: float) -> str:
        """A value at an axis: as few digits as it takes."""
        if self.unit == "points":
            return f"{value * self.scale:g} %"
        return f"{value * self.scale:g}".replace("-", words.MINUS)

    def after(self, reference: float, drop: float) -> float:
        """The metric that a drop of so many units leaves."""
        return reference + self._sign * drop / self.scale

    @property
    def bounds(self) -> tuple[float, float]:
        """What the metric can be: points lie in 0..100."""
        return (0.0, 100 / self.scale) if self.unit == "points" else (-math.inf, math.inf)

    @property
    def _sign(self) -> int:
        return -1 if self.higher_is_better else 1
