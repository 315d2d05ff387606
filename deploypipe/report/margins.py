"""How sure a comparison is: a value and its interval against the limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from deploypipe.report import words
from deploypipe.report.comparison import speedup_ends
from deploypipe.report.headline import find_check, limit
from deploypipe.report.marks import Figure, Mark, whisker
from deploypipe.report.schema import CheckEntry, Report
from deploypipe.report.scores import Score
from deploypipe.report.svg import Scale, line, marker, picture, spanning, tag, text

WIDTH, TOP, LINE, STRIP = 440, 44, 44, 40
"""Pixels; above the top lie the value's words and, nearer to its line, the limit's."""


@dataclass(frozen=True)
class Strip:
    """One dot for every process, above the interval that follows from them."""

    label: str
    values: tuple[float, ...]
    role: str


def speedup_figure(report: Report) -> Figure | None:
    """The speed-up and its interval, against the limit, or against 1x where there is none."""
    paired, ends = report.latency, speedup_ends(report)
    if paired is None or not paired.ratio or ends is None:
        return None
    mark = Mark(
        "speed-up", 1 / paired.ratio, words.exact_ratio(1 / paired.ratio), "candidate", *ends
    )
    check = find_check(report, "speedup") or find_check(report, "slower")
    noise = paired.aa_half_width
    caption = f"Line: interval of the paired comparison{words.confidence(paired.confidence)}."
    if noise is not None:
        caption += f" Noise of this host: {words.number(100 * noise, 2)} %."
    strips = _strips(report)
    if strips:
        what = "one fresh process" if paired.fresh == "process" else "one round"
        caption += f" Each of {len(strips[-1].values)} dots: {what}."
    svg = _against("speedup", mark, check, "x", 1.0, strips)
    return Figure("How sure the speed-up is", caption, svg) if svg else None


def _strips(report: Report) -> list[Strip]:
    """The speed-up of every round, and that of the reference over itself: what noise looks like."""
    logs = report.latency.log_ratios if report.latency else []
    sides = {
        "reference over itself": ([one.twin for one in logs if one.twin is not None], "reference"),
        "over candidate": ([one.ratio for one in logs], "candidate"),
    }
    strips = []
    for label, (values, role) in sides.items():
        known = tuple(math.exp(-v) for v in values if math.isfinite(v) and abs(v) < 50)
        if known:
            strips.append(Strip(label, known, role))
    return strips


def drop_figure(report: Report) -> Figure | None:
    """The drop of the metric and its interval, against the limit."""
    paired = report.accuracy
    if paired is None or paired.drop_points is None or paired.low is None or paired.high is None:
        return None
    score = Score.of(report)
    drop = words.quantity(paired.drop_points, score.unit)
    mark = Mark(
        f"{score.name} drop", paired.drop_points, drop, "candidate", paired.low, paired.high
    )
    svg = _against("drop", mark, find_check(report, "drop"), score.unit, 0.0)
    if svg is None:
        return None
    sure = words.confidence(paired.confidence, paired.one_sided)
    caption = (
        f"A drop to the right of zero is a loss. Line: interval of the paired difference{sure}."
    )
    return Figure(f"How sure the {score.name} is", caption, svg)


def _against(
    key: str,
    mark: Mark,
    check: CheckEntry | None,
    unit: str,
    neutral: float,
    strips: Sequence[Strip] = (),
) -> Markup | None:
    """A value and its interval on an axis, with the accepted side of the limit shaded."""
    if mark.ends is None or not math.isfinite(mark.value):
        return None
    edge = check.limit if check else None
    limits = [edge] if edge is not None and math.isfinite(edge) else []
    dots = [value for strip in strips for value in strip.values]
    scale = spanning([mark.value, neutral, *mark.ends, *limits, *dots], 12.0, WIDTH - 12.0)
    bottom = TOP + STRIP * len(strips) + LINE
    between = words.interval(*mark.ends, unit)
    told = f"{mark.label} {mark.words}, interval {between}"
    drawn = [line(scale(neutral), TOP, scale(neutral), bottom, "rail")]
    drawn += _axis(scale, unit, bottom)
    if check and limits:
        told += f", limit {limit(check)}"
        drawn = [*_limit(scale, limits[0], check, bottom), *drawn]
    for place, strip in enumerate(strips):
        drawn += _strip(scale, TOP + STRIP * place, strip)
    x, y = scale(mark.value), bottom - LINE / 2
    drawn += [whisker(scale, y, mark), marker(x, y, mark.role)]
    drawn.append(text(x, 14, f"{mark.words} ({between})", "value", scale.anchor(mark.value)))
    return picture(key, mark.label, told, WIDTH, bottom + 24, *drawn)


def _strip(scale: Scale, top: float, strip: Strip) -> list[Markup]:
    """Dots that would hide one another are heaped up."""
    middle = sum(strip.values) / len(strip.values)
    drawn = [text(scale(middle), top + 14, strip.label, "tick", scale.anchor(middle))]
    heaps: dict[int, int] = {}
    for value in strip.values:
        x = scale(value)
        level = heaps[round(x / 4)] = heaps.get(round(x / 4), -1) + 1
        y = top + STRIP - 6 - 3.0 * min(level, 4)
        drawn.append(tag("circle", cx=x, cy=y, r=3, class_=f"{strip.role} dot"))
    return drawn


def _axis(scale: Scale, unit: str, bottom: float) -> list[Markup]:
    drawn = [line(scale.left, bottom, scale.right, bottom, "axis")]
    for value in scale.ticks(6):
        drawn.append(line(scale(value), bottom, scale(value), bottom + 4, "axis"))
        name = f"{value:g}{'x' if unit == 'x' else ''}".replace("-", words.MINUS)
        drawn.append(text(scale(value), bottom + 18, name, "tick", "middle"))
    return drawn


def _limit(scale: Scale, edge: float, check: CheckEntry, bottom: float) -> list[Markup]:
    x = scale(edge)
    drawn = []
    if check.side is not None:
        left, right = (x, scale.right) if check.side == "least" else (scale.left, x)
        drawn.append(
            tag("rect", x=left, y=TOP, width=right - left, height=bottom - TOP, class_="accepted")
        )
    drawn.append(line(x, TOP - 3, x, bottom, "limit"))
    drawn.append(text(x, 36, f"limit: {limit(check)}", "tick", scale.anchor(edge)))
    return drawn
