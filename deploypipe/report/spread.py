"""How single calls spread: the empirical distributions of both models' latencies."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from deploypipe.report import words
from deploypipe.report.marks import Figure
from deploypipe.report.schema import Report
from deploypipe.report.svg import Scale, line, marker, picture, tag, text

WIDTH = 440
STEPS = 240
"""Steps of a curve at most; more cannot be seen."""


def spread_figure(report: Report) -> Figure | None:
    """Share of calls that took at most so long, of both models: their empirical distributions."""
    if report.latency is None:
        return None
    series = {
        "reference": sorted(filter(math.isfinite, report.latency.reference_ms)),
        "candidate": sorted(filter(math.isfinite, report.latency.candidate_ms)),
    }
    series = {role: values for role, values in series.items() if values}
    if not series:
        return None
    scale, beyond = _time_scale(list(series.values()))
    svg = picture(
        "spread", "Share of calls by latency", _spread_told(series), WIDTH, 250,
        *_spread_grid(scale), *(_curve(scale, role, values) for role, values in series.items()),
        *_legend(series),
    )  # fmt: skip
    caption = f"{_calls(report, series)}: the share that took at most so many milliseconds."
    if beyond:
        caption += f" Beyond the axis: {words.counted(beyond, 'slower call')}."
    return Figure("Spread of the calls", caption, svg)


def _calls(report: Report, series: dict[str, list[float]]) -> str:
    """Which calls there are to show: all, or as many as a report keeps."""
    sides = {"reference": report.reference, "candidate": report.candidate}
    timed = {role: side.latency_ms.n for role, side in sides.items() if side and side.latency_ms}
    shown = {role: len(values) for role, values in series.items()}
    if all(count >= (timed.get(role) or 0) for role, count in shown.items()):
        return "Every timed call"
    of = ", ".join(
        f"{count} of {timed.get(role) or count} of the {role}" for role, count in shown.items()
    )
    return f"Timed calls, evenly picked ({of})"


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def _time_scale(series: Sequence[Sequence[float]]) -> tuple[Scale, int]:
    """From zero, unless all calls are alike; a far tail is cut off and counted."""
    high = max(_quantile(values, 0.98) for values in series) * 1.06
    low = min(values[0] for values in series)
    low = 0.0 if low < 0.6 * high else low - 0.15 * (high - low)
    beyond = sum(value > high for values in series for value in values)
    return Scale(low, high or 1.0, 40.0, WIDTH - 12.0), beyond


def _height(share: float) -> float:
    return 210.0 - 166.0 * share


def _spread_grid(scale: Scale) -> list[Markup]:
    drawn = []
    for share, name in ((0.0, "0 %"), (0.5, "p50"), (0.9, "p90"), (1.0, "100 %")):
        drawn.append(line(scale.left, _height(share), scale.right, _height(share), "rail"))
        drawn.append(text(scale.left - 6, _height(share) + 4, name, "tick", "end"))
    for value in scale.ticks(6):
        drawn.append(line(scale(value), _height(0), scale(value), _height(0) + 4, "axis"))
        drawn.append(text(scale(value), _height(0) + 17, f"{value:g}", "tick", "middle"))
    drawn.append(line(scale.left, _height(0), scale.right, _height(0), "axis"))
    drawn.append(text(scale.right, _height(0) + 34, "milliseconds per call", "tick", "end"))
    return drawn


def _curve(scale: Scale, role: str, values: Sequence[float]) -> Markup:
    every = max(1, len(values) // STEPS)
    path = f"M{scale(values[0]):.1f} {_height(0):.1f}"
    for index in range(every - 1, len(values), every):
        path += f"H{scale(values[index]):.1f}V{_height((index + 1) / len(values)):.1f}"
    dots = [marker(scale(_quantile(values, s)), _height(s), role) for s in (0.5, 0.9)]
    return Markup("").join([tag("path", d=path, class_=f"curve {role}-line"), *dots])


def _legend(series: dict[str, list[float]]) -> list[Markup]:
    drawn = []
    for index, (role, values) in enumerate(series.items()):
        x = 46.0 + 200 * index
        drawn.append(marker(x, 12, role))
        drawn.append(text(x + 12, 16, f"{role} p50 {words.milliseconds(_quantile(values, 0.5))}"))
    return drawn


def _spread_told(series: dict[str, list[float]]) -> str:
    return "; ".join(
        f"{role}: {words.counted(len(values), 'call')}, p50 {words.milliseconds(_quantile(values, 0.5))}, "
        f"p90 {words.milliseconds(_quantile(values, 0.9))}"
        for role, values in series.items()
    )
