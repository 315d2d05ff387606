"""Where the candidate departs from the step before it: signal over noise of every layer."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from deploypipe.report import words
from deploypipe.report.marks import Figure
from deploypipe.report.schema import LayerRow, Report
from deploypipe.report.svg import Scale, line, picture, tag, text

WIDTH, HEIGHT = 440, 232
LEFT, RIGHT, TOP, BOTTOM = 36.0, 432.0, 20.0, 200.0
BARS = 120
"""Bars that can be told apart; of more layers every second, third, ... is drawn by its worst."""
SHOWN = 8
"""Layers in the table, the worst ones."""


@dataclass(frozen=True)
class LayerLine:
    """One of the worst layers as words; ``share`` is the bar's length in per cent."""

    name: str
    op: str
    sqnr: str
    drop: str
    share: int
    cliff: bool


def layers_figure(report: Report) -> Figure | None:
    """A bar for every compared layer, in the order of computing; the first cliff stands out."""
    rows = sorted(_measured(report), key=lambda row: row.place or 0)
    if len(rows) < 2:
        return None
    top = max(row.sqnr_db or 0.0 for row in rows)
    bars = _thinned(rows)
    scale = Scale(0.0, max(top * 1.05, 10.0), BOTTOM, TOP)
    cliff = report.layers.cliff
    x = Scale(0, len(bars), LEFT, RIGHT)
    wide = (RIGHT - LEFT) / len(bars)
    gap = min(3.0, 0.25 * wide)
    drawn = [*_grid(scale)]
    drawn += [
        _bar(x(place) + gap / 2, wide - gap, scale, row, cliff) for place, row in enumerate(bars)
    ]
    drawn.append(line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis"))
    drawn.append(text(LEFT, BOTTOM + 18, "first layer", "tick"))
    drawn.append(text(RIGHT, BOTTOM + 18, "last layer", "tick", "end"))
    told = "; ".join(f"{line.name} {line.sqnr}" for line in worst_layers(report)[:5])
    title = "Signal over noise, layer by layer"
    svg = picture("layers", title, f"The worst: {told}", WIDTH, HEIGHT, *drawn)
    return Figure(title, _caption(report, len(rows)), svg)


def _measured(report: Report) -> list[LayerRow]:
    return [row for row in report.layers.rows if row.sqnr_db is not None]


def _thinned(rows: list[LayerRow]) -> list[LayerRow]:
    every = -(-len(rows) // BARS)
    groups = [rows[start : start + every] for start in range(0, len(rows), every)]
    return [min(group, key=lambda row: row.sqnr_db or 0.0) for group in groups]


def _grid(scale: Scale) -> list[Markup]:
    drawn = []
    for value in scale.ticks(4):
        drawn.append(line(LEFT, scale(value), RIGHT, scale(value), "rail"))
        drawn.append(text(LEFT - 6, scale(value) + 4, f"{value:g}", "tick", "end"))
    drawn.append(text(4, 10, "dB", "tick"))
    return drawn


def _bar(left: float, wide: float, scale: Scale, row: LayerRow, cliff: LayerRow | None) -> Markup:
    height = scale(row.sqnr_db or 0.0)
    lost = cliff is not None and row.name == cliff.name
    class_ = "cliff" if lost else "layer"
    bar = tag(
        "rect",
        tag("title", f"{words.plain(row.name, 80)}: {words.decibel(row.sqnr_db)}"),
        x=left, y=height, width=max(wide, 0.5), height=max(BOTTOM - height, 1.0), class_=class_,
    )  # fmt: skip
    if not lost:
        return bar
    fits = left < RIGHT - 80  # what follows a cliff is lower, so there is room above it
    return bar + text(
        left if fits else RIGHT, height - 6, "first cliff", "label", "start" if fits else "end"
    )


def _caption(report: Report, count: int) -> str:
    layers = report.layers
    against = f" against {words.plain(layers.against, 40)}" if layers.against else ""
    samples = f" on {words.counted(layers.samples, 'sample')}" if layers.samples else ""
    told = f"{words.counted(count, 'layer')}{against}{samples}; taller is closer. "
    equal = sum(row.equal for row in layers.rows)
    told += f"{words.counted(equal, 'more layer')} equal to the last bit. " if equal else ""
    cliff = layers.cliff
    if cliff is None or cliff.drop_db is None:
        return f"{told}No layer loses {layers.cliff_db or 6:g} dB of what it reads."
    name = f"{words.plain(cliff.name, 60)} ({words.plain(cliff.op, 30)})"
    return f"{told}First cliff: {name} loses {words.decibel(cliff.drop_db)}."


def worst_layers(report: Report) -> list[LayerLine]:
    """The layers with the least signal over noise."""
    rows = sorted(_measured(report), key=lambda row: row.sqnr_db or 0.0)
    top = max((row.sqnr_db or 0.0 for row in rows), default=0.0) or 1.0
    cliff = report.layers.cliff
    return [
        LayerLine(
            name=words.plain(row.name, 80),
            op=words.plain(row.op, 40),
            sqnr=words.decibel(row.sqnr_db),
            drop=words.decibel(row.drop_db),
            share=round(100 * min(max((row.sqnr_db or 0.0) / top, 0.0), 1.0)),
            cliff=cliff is not None and cliff.name == row.name,
        )
        for row in rows[:SHOWN]
    ]
