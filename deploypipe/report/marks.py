"""A measured value with its interval, as the pictures draw it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from deploypipe.report.svg import Scale, line


@dataclass(frozen=True)
class Mark:
    """One row of a panel: a value, its words, and the ends of its interval."""

    label: str
    value: float
    words: str
    role: str
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, float] | None:
        """The interval, if both ends are numbers."""
        if self.low is None or self.high is None or not math.isfinite(self.low + self.high):
            return None
        return self.low, self.high


@dataclass(frozen=True)
class Figure:
    """A picture with the words around it."""

    title: str
    caption: str
    svg: Markup


def whisker(scale: Scale, y: float, mark: Mark) -> Markup:
    """The interval as a line with two ends; nothing where there is none."""
    if mark.ends is None:
        return Markup("")
    low, high = scale(mark.ends[0]), scale(mark.ends[1])
    ends = [line(x, y - 5, x, y + 5, "whisker") for x in (low, high)]
    return Markup("").join([line(low, y, high, y, "whisker"), *ends])
