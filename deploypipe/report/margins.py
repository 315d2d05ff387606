"""How sure a comparison is: a value and its interval against the limit."""

from __future__ import annotations

import math

from markupsafe import Markup

from deploypipe.report import words
from deploypipe.report.comparison import speedup_ends
from deploypipe.report.headline import find_check, limit
from deploypipe.report.marks import Figure, Mark, whisker
from deploypipe.report.schema import CheckEntry, Report
from deploypipe.report.scores import Score
from deploypipe.report.svg import Scale, line, marker, picture, spanning, tag, text

WIDTH, TOP, MIDDLE, BOTTOM = 440, 44, 66, 88
"""Pixels; above the top lie the value's words and, nearer to its line, the limit's."""


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
    svg = _against("speedup", mark, check, "x", 1.0)
    return Figure("How sure the speed-up is", caption, svg) if svg else None


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
    key: str, mark: Mark, check: CheckEntry | None, unit: str, neutral: float
) -> Markup | None:
    """A value and its interval on an axis, with the accepted side of the limit shaded."""
    if mark.ends is None or not math.isfinite(mark.value):
        return None
    edge = check.limit if check else None
    limits = [edge] if edge is not None and math.isfinite(edge) else []
    scale = spanning([mark.value, neutral, *mark.ends, *limits], 12.0, WIDTH - 12.0)
    between = words.interval(*mark.ends, unit)
    told = f"{mark.label} {mark.words}, interval {between}"
    drawn = [line(scale(neutral), TOP, scale(neutral), BOTTOM, "rail"), *_axis(scale, unit)]
    if check and limits:
        told += f", limit {limit(check)}"
        drawn = [*_limit(scale, limits[0], check), *drawn]
    x = scale(mark.value)
    drawn += [whisker(scale, MIDDLE, mark), marker(x, MIDDLE, mark.role)]
    drawn.append(text(x, 14, f"{mark.words} ({between})", "value", scale.anchor(mark.value)))
    return picture(key, mark.label, told, WIDTH, BOTTOM + 24, *drawn)


def _axis(scale: Scale, unit: str) -> list[Markup]:
    drawn = [line(scale.left, BOTTOM, scale.right, BOTTOM, "axis")]
    for value in scale.ticks(6):
        drawn.append(line(scale(value), BOTTOM, scale(value), BOTTOM + 4, "axis"))
        name = f"{value:g}{'x' if unit == 'x' else ''}".replace("-", words.MINUS)
        drawn.append(text(scale(value), BOTTOM + 18, name, "tick", "middle"))
    return drawn


def _limit(scale: Scale, edge: float, check: CheckEntry) -> list[Markup]:
    x = scale(edge)
    drawn = []
    if check.side is not None:
        left, right = (x, scale.right) if check.side == "least" else (scale.left, x)
        drawn.append(
            tag("rect", x=left, y=TOP, width=right - left, height=BOTTOM - TOP, class_="accepted")
        )
    drawn.append(line(x, TOP - 3, x, BOTTOM, "limit"))
    drawn.append(text(x, 36, f"limit: {limit(check)}", "tick", scale.anchor(edge)))
    return drawn
