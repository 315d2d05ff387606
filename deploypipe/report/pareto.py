"""The trade: size and latency against the metric, one point for every artifact."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from deploypipe.report import words
from deploypipe.report.marks import Figure
from deploypipe.report.panels import role_of, within
from deploypipe.report.schema import LedgerRow, Report
from deploypipe.report.scores import Score
from deploypipe.report.svg import Scale, line, marker, picture, tag, text

WIDTH, HEIGHT = 440, 268
LEFT, RIGHT, TOP, BOTTOM = 56.0, 424.0, 26.0, 218.0
NEAR = 9.0
"""Pixels within which two points count as one, and share a label."""
LETTER = 7.8
"""Pixels of a letter on a phone, where letters are larger, about."""
RISES = (-12.0, 6.0, -27.0, 21.0, -42.0, 36.0)
"""Pixels from a point down to its label, in the order in which they are tried."""

Ends = tuple[float, float] | None


@dataclass(frozen=True)
class Point:
    """An artifact: what it costs, what it scores, and the intervals of both."""

    label: str
    cost: float
    score: float
    role: str
    told: str
    costs: Ends = None
    scores: Ends = None


@dataclass(frozen=True)
class Box:
    """Where a label or a marker is."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def inside(self) -> bool:
        """Whether it is within the axes."""
        return (
            self.left >= LEFT and self.right <= WIDTH and self.top >= 14 and self.bottom <= BOTTOM
        )

    def meets(self, other: Box) -> bool:
        """Whether both cover a spot."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def pareto_figures(report: Report) -> list[Figure]:
    """Two pictures; one is left out where fewer than two artifacts have both numbers."""
    score = Score.of(report)
    size = _points(report, lambda row: row.bytes, words.size, lambda _: None)
    time = _points(report, _milliseconds, words.milliseconds, _interval)
    better = "higher" if score.higher_is_better else "lower"
    caption = (
        f"Cheaper is further left, better is {better}; dotted: what nothing else beats in both."
    )
    drawn = [
        _draw("trade-size", f"Size and {score.name}", "size on disk", size, words.size, score),
        _draw(
            "trade-time",
            f"Latency and {score.name}",
            "latency p50",
            time,
            words.milliseconds,
            score,
        ),
    ]
    told = [
        caption,
        "The same; crosses are the intervals of the time and of the paired difference.",
    ]
    return [replace(f, caption=c) for f, c in zip(drawn, told, strict=True) if f is not None]


def _milliseconds(row: LedgerRow) -> float | None:
    return row.latency_ms.p50 if row.latency_ms else None


def _interval(row: LedgerRow) -> Ends:
    """Milliseconds at the ends of the ratio to the reference."""
    ratio, middle = row.ratio, _milliseconds(row)
    if ratio is None or middle is None or not ratio.low or not ratio.high or not ratio.value > 0:
        return None
    return middle * ratio.low / ratio.value, middle * ratio.high / ratio.value


def _points(
    report: Report,
    cost: Callable[[LedgerRow], float | None],
    say: Callable[[float | None], str],
    ends: Callable[[LedgerRow], Ends],
) -> list[Point]:
    score, rows = Score.of(report), report.ledger
    points = []
    for index, row in enumerate(rows):
        paid, got = cost(row), row.accuracy
        if paid is None or got is None or not math.isfinite(paid + got):
            continue
        told = f"{words.plain(row.label, 40)}: {say(paid)}, {score.value(got)}"
        role, label = role_of(index, rows), words.plain(row.label, 16)
        points.append(Point(label, paid, got, role, told, ends(row), _scores(rows[0], row, score)))
    return points


def _scores(first: LedgerRow, row: LedgerRow, score: Score) -> Ends:
    """The metric at the ends of the drop against the reference."""
    drop = row.drop
    if drop is None or drop.low is None or drop.high is None or first.accuracy is None:
        return None
    low, high = sorted(score.after(first.accuracy, end) for end in (drop.low, drop.high))
    return (low, high) if math.isfinite(low + high) else None


def _draw(
    key: str,
    title: str,
    axis: str,
    points: Sequence[Point],
    say: Callable[[float | None], str],
    score: Score,
) -> Figure | None:
    if len(points) < 2:
        return None
    x = Scale(0.0, 1.06 * max(_far(point.cost, point.costs) for point in points), LEFT, RIGHT)
    seen = [end for p in points for end in (p.score, *(p.scores or ()))]
    y = replace(within(score.bounds, seen), left=BOTTOM, right=TOP)
    drawn = [*_grid(x, y, axis, say, score), _frontier(points, x, y, score)]
    drawn += [mark for point in points for mark in _cross(point, x, y)]
    drawn += [marker(x(point.cost), y(point.score), point.role) for point in reversed(points)]
    drawn += _labels(points, x, y)
    told = "; ".join(point.told for point in points)
    return Figure(title, "", picture(key, title, told, WIDTH, HEIGHT, *drawn))


def _far(value: float, ends: Ends) -> float:
    return max(value, ends[1]) if ends else value


def _grid(
    x: Scale, y: Scale, axis: str, say: Callable[[float | None], str], score: Score
) -> list[Markup]:
    drawn = []
    for value in y.ticks(4):
        drawn.append(line(LEFT, y(value), RIGHT, y(value), "rail"))
        drawn.append(text(LEFT - 6, y(value) + 4, score.tick(value), "tick", "end"))
    for value in x.ticks(4):
        drawn.append(line(x(value), BOTTOM, x(value), BOTTOM + 4, "axis"))
        name = "0" if value == 0 else say(value).replace(".00 ", " ").replace(".0 ", " ")
        drawn.append(text(x(value), BOTTOM + 18, name, "tick", "middle"))
    drawn.append(line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis"))
    drawn.append(text(RIGHT, BOTTOM + 38, axis, "tick", "end"))
    drawn.append(text(4, 12, words.plain(score.name, 40), "tick"))
    return drawn


def _frontier(points: Sequence[Point], x: Scale, y: Scale, score: Score) -> Markup:
    """The staircase through the artifacts that none beats in both."""
    sign = 1 if score.higher_is_better else -1
    path, best = "", -math.inf
    for point in sorted(points, key=lambda p: (p.cost, -sign * p.score)):
        if sign * point.score > best:
            best = sign * point.score
            start = f"M{x(point.cost):.1f} {BOTTOM:.1f}" if not path else f"H{x(point.cost):.1f}"
            path += f"{start}V{y(point.score):.1f}"
    return tag("path", d=f"{path}H{RIGHT:.1f}", class_="frontier")


def _cross(point: Point, x: Scale, y: Scale) -> list[Markup]:
    here = x(point.cost), y(point.score)
    drawn = []
    if point.costs:
        drawn.append(line(x(point.costs[0]), here[1], x(point.costs[1]), here[1], "whisker thin"))
    if point.scores:
        drawn.append(line(here[0], y(point.scores[0]), here[0], y(point.scores[1]), "whisker thin"))
    return drawn


def _labels(points: Sequence[Point], x: Scale, y: Scale) -> list[Markup]:
    """One label for points that fall together, each at the first free place around its point."""
    groups: list[tuple[float, float, list[str]]] = []
    for point in points:
        here = x(point.cost), y(point.score)
        near = [g for g in groups if math.dist(here, g[:2]) < NEAR]
        if near:
            near[0][2].append(point.label)
        else:
            groups.append((*here, [point.label]))
    taken = [Box(left - 6, top - 6, left + 6, top + 6) for left, top, _ in groups]
    drawn = []
    for left, top, names in groups:
        told = ", ".join(names)
        boxes = [_box(left, top, told, side, rise) for rise in RISES for side in (1, -1)]
        box = next((b for b in boxes if b.inside and not any(map(b.meets, taken))), boxes[0])
        taken.append(box)
        drawn.append(text(box.left, box.bottom - 4, told, "label"))
    return drawn


def _box(left: float, top: float, told: str, side: int, rise: float) -> Box:
    wide = LETTER * len(told)
    start = left + 9 if side > 0 else left - 9 - wide
    return Box(start, top + rise - 4, start + wide, top + rise + 11)
