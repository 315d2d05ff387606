"""The few SVG pieces that the pictures are drawn with.  All text and attributes are escaped.

Colours are CSS classes of the page, so that a picture follows its light or dark scheme.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """``<name a="1">children</name>``; ``class_`` is class and ``text_anchor`` is text-anchor."""
    given = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _written(value))
        for key, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(name, given, Markup("").join(children))


def _written(value: object) -> object:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value


def picture(
    key: str, title: str, description: str, width: int, height: int, *children: str
) -> Markup:
    """An inline picture that a screen reader announces by its title and description."""
    return tag(
        "svg",
        tag("title", title, id=f"{key}-title"),
        tag("desc", description, id=f"{key}-desc"),
        *children,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
        class_="picture",
    )


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def text(x: float, y: float, words: str, class_: str = "label", anchor: str = "start") -> Markup:
    """A line of text with its baseline at ``y``."""
    return tag("text", words, x=x, y=y, class_=class_, text_anchor=anchor)


def marker(x: float, y: float, role: str) -> Markup:
    """A square for the reference and a circle for all else, so that shape tells them apart."""
    if role == "reference":
        return tag("rect", x=x - 4, y=y - 4, width=8, height=8, class_=role)
    return tag("circle", cx=x, cy=y, r=4.5, class_=role)


@dataclass(frozen=True)
class Scale:
    """Values from ``low`` to ``high`` on pixels from ``left`` to ``right``; beyond is clamped."""

    low: float
    high: float
    left: float
    right: float

    def __call__(self, value: float) -> float:
        span = (self.high - self.low) or 1.0
        share = min(max((value - self.low) / span, 0.0), 1.0)
        return self.left + share * (self.right - self.left)

    def anchor(self, value: float) -> str:
        """Where text at ``value`` must hang from to stay inside the picture."""
        share = (self(value) - self.left) / (self.right - self.left)
        return "start" if share < 0.3 else "end" if share > 0.7 else "middle"

    def ticks(self, about: int = 5) -> list[float]:
        """Round values inside the scale, 1, 2 or 5 times a power of ten apart."""
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        rough = span / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(i * step, 10) for i in range(first, last + 1)]


def spanning(values: list[float], left: float, right: float, pad: float = 0.08) -> Scale:
    """A scale around ``values`` with a margin on both sides."""
    low, high = min(values), max(values)
    margin = pad * ((high - low) or abs(high) or 1.0)
    return Scale(low - margin, high + margin, left, right)
