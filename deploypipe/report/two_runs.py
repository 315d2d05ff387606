"""Two runs side by side: what changed in the candidate, and whether the runs can be compared at all.

Times in milliseconds are only compared on the same machine.  Speed-ups are each run's own, in pairs
against its original; two of them are compared where the originals and the machines are the same,
and then the interval of their quotient is that of two independent runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from deploypipe.core.files import Json
from deploypipe.report import words
from deploypipe.report.comparison import comparison
from deploypipe.report.facts import environment_facts
from deploypipe.report.headline import checks, headline
from deploypipe.report.ledger import ALIKE
from deploypipe.report.schema import LatencyComparison, Report, Side
from deploypipe.report.scores import Score
from deploypipe.report.stages import pairs

OTHER_MACHINE = "other environment"


@dataclass(frozen=True)
class RunWords:
    """One of the two runs."""

    name: str
    created: str
    outcome: str
    mark: str
    reason: str


@dataclass(frozen=True)
class Change:
    """One measure of both candidates; ``note`` is an interval, or why nothing is said."""

    label: str
    first: str
    second: str
    change: str
    note: str = ""


@dataclass(frozen=True)
class TwoRuns:
    """``first`` is the older one, or the one that was named first; differences are rows of name,
    first and second."""

    first: RunWords
    second: RunWords
    cautions: tuple[str, ...]
    rows: tuple[Change, ...]
    checks: tuple[Change, ...]
    steps: tuple[Change, ...]
    environment: tuple[tuple[str, str, str], ...]
    recipe: tuple[tuple[str, str, str], ...]

    def to_json(self) -> Json:
        """All of it as plain JSON."""
        return asdict(self)

    @property
    def verdict(self) -> str:
        """``PASS, as before`` or ``PASS → FAIL``."""
        if self.first.outcome == self.second.outcome:
            return f"{self.second.outcome} in both"
        return f"{self.first.outcome} \N{RIGHTWARDS ARROW} {self.second.outcome}"

    @property
    def gist(self) -> str:
        """What changed, in one line."""
        told = [f"{row.label} {row.change}" for row in self.rows if row.label in _GIST]
        return "; ".join(each for each in told if not each.endswith(words.NOTHING))


_GIST = ("size", "speed-up", "latency p50")


def compare_runs(first: Report, second: Report) -> TwoRuns:
    """Compare ``second`` with ``first``."""
    environment = _different(dict(_facts(first)), dict(_facts(second)))
    recipe = _different(dict(pairs(first.recipe)), dict(pairs(second.recipe)))
    same = not environment and bool(first.environment)
    return TwoRuns(
        first=_run(first),
        second=_run(second),
        cautions=tuple(_cautions(first, second, bool(environment))),
        rows=tuple(_rows(first, second, same)),
        checks=tuple(_checks(first, second)),
        steps=tuple(_steps(first, second)),
        environment=tuple(environment),
        recipe=tuple(recipe[:60]),
    )


def _run(report: Report) -> RunWords:
    found = headline(report)
    created = words.moment(report.created) if report.created else ""
    return RunWords(words.plain(report.name, 80), created, found.outcome, found.mark, found.reason)


def _facts(report: Report) -> list[tuple[str, str]]:
    latency = report.latency
    told = environment_facts(report)
    if latency:
        told += [("threads of the timing", str(latency.threads)), ("batch", str(latency.batch))]
    return told


def _different(first: Mapping[str, str], second: Mapping[str, str]) -> list[tuple[str, str, str]]:
    names = list(dict.fromkeys([*first, *second]))
    rows = [
        (name, first.get(name, words.NOTHING), second.get(name, words.NOTHING)) for name in names
    ]
    return [row for row in rows if row[1] != row[2]]


def _cautions(first: Report, second: Report, elsewhere: bool) -> list[str]:
    """What makes this less than a comparison."""
    told = []
    if elsewhere:
        told.append("The environments differ: times are not compared, only sizes and answers.")
    if not _same(first.reference, second.reference):
        told.append("The originals are not the same file: each run is against its own.")
    if not _same_samples(first, second):
        told.append("The validation samples are not the same: the metric is not compared.")
    return told


def _same(first: Side | None, second: Side | None) -> bool:
    return bool(first and second and first.digest and first.digest == second.digest)


def _same_samples(first: Report, second: Report) -> bool:
    splits = [one.data.splits.get("validation") if one.data else None for one in (first, second)]
    counts = [one.accuracy.samples if one.accuracy else None for one in (first, second)]
    digests = [split.digest if split else None for split in splits]
    metrics = [one.accuracy.metric if one.accuracy else None for one in (first, second)]
    return (
        digests[0] is not None
        and digests[0] == digests[1]
        and counts[0] == counts[1]
        and metrics[0] == metrics[1]
    )


def _rows(first: Report, second: Report, same: bool) -> list[Change]:
    before, after = first.candidate or Side(), second.candidate or Side()
    counted = [
        Change("size", words.size(before.bytes), words.size(after.bytes),
               words.change(before.bytes, after.bytes, "smaller", "larger")),
        *(_count(label, getattr(before, key), getattr(after, key))
          for label, key in (("parameters", "parameters"), ("MACs", "macs"), ("graph nodes", "nodes"))),
        _speedup(first, second, same),
        *_times(first, second, same),
        *_scores(first, second),
    ]  # fmt: skip
    return [row for row in counted if {row.first, row.second} != {words.NOTHING}]


def _count(label: str, before: int | None, after: int | None) -> Change:
    change = words.change(before, after, "fewer", "more")
    return Change(label, words.count(before), words.count(after), change)


def _speedup(first: Report, second: Report, same: bool) -> Change:
    """Each run's speed-up over its original, and the quotient of the two."""
    bare = Change(
        "speed-up", _told_speedup(first.latency), _told_speedup(second.latency), words.NOTHING
    )
    if not same:
        return replace(bare, note=OTHER_MACHINE)
    if not _same(first.reference, second.reference):
        return replace(bare, note="other originals")
    before, after = _log(first.latency), _log(second.latency)
    if before is None or after is None:
        return bare
    middle, half = before[0] - after[0], math.hypot(before[1], after[1])
    note = words.interval(math.exp(middle - half), math.exp(middle + half), "x")
    if abs(middle) <= half:
        return replace(bare, change=ALIKE, note=note)
    return replace(bare, change=words.change(1.0, math.exp(-middle), "faster", "slower"), note=note)


def _told_speedup(latency: LatencyComparison | None) -> str:
    if latency is None or not latency.ratio or latency.ratio <= 0:
        return words.NOTHING
    told = words.exact_ratio(1 / latency.ratio)
    if latency.low and latency.high and min(latency.low, latency.high) > 0:
        told += f" ({words.interval(1 / latency.high, 1 / latency.low, 'x')})"
    return told


def _log(latency: LatencyComparison | None) -> tuple[float, float] | None:
    """Log of candidate over reference and half of its interval's width."""
    if latency is None or not latency.ratio or not latency.low or not latency.high:
        return None
    if min(latency.ratio, latency.low, latency.high) <= 0:
        return None
    return math.log(latency.ratio), (math.log(latency.high) - math.log(latency.low)) / 2


def _times(first: Report, second: Report, same: bool) -> list[Change]:
    """Rows of the candidates' own milliseconds and memory."""
    found = []
    sides = [{row.label: row for row in comparison(one)} for one in (first, second)]
    middle = [one.candidate.latency_ms if one.candidate else None for one in (first, second)]
    was, now = (one.p50 if one else None for one in middle)
    note = "two runs, not in turns" if same else OTHER_MACHINE
    change = words.change(was, now, "faster", "slower") if same else words.NOTHING
    told = words.milliseconds(was), words.milliseconds(now)
    found.append(Change("latency p50", told[0], told[1], change, note))
    for label in ("latency p90", "cold start", "peak memory"):
        values = [side[label].candidate if label in side else words.NOTHING for side in sides]
        found.append(Change(label, values[0], values[1], words.NOTHING))
    return found


def _scores(first: Report, second: Report) -> list[Change]:
    scores, score = [Score.of(one) for one in (first, second)], Score.of(second)
    name = " / ".join(dict.fromkeys(one.name for one in scores))
    values = [_value(one) for one in (first, second)]
    told = [one.value(value) for one, value in zip(scores, values, strict=True)]
    change, note = words.NOTHING, "other samples"
    if scores[0] != score:
        note = "other metrics"
    elif _same_samples(first, second) and values[0] is not None and values[1] is not None:
        change, note = score.change(score.drop(values[0], values[1])), "the same samples"
    rows = [Change(name, told[0], told[1], change, note)]
    against = f"{name}, against the original"
    rows.append(Change(against, _drop(first), _drop(second), words.NOTHING))
    flips = [one.accuracy.flips_to_wrong if one.accuracy else None for one in (first, second)]
    rows.append(
        Change(
            "answers that became wrong",
            words.count(flips[0]),
            words.count(flips[1]),
            words.NOTHING,
        )
    )
    return rows


def _value(report: Report) -> float | None:
    return report.accuracy.candidate if report.accuracy else None


def _drop(report: Report) -> str:
    paired, score = report.accuracy, Score.of(report)
    if paired is None or paired.drop_points is None:
        return words.NOTHING
    told = score.change(paired.drop_points)
    if paired.low is None or paired.high is None:
        return told
    return f"{told} ({score.change_interval(paired.low, paired.high)})"


def _checks(first: Report, second: Report) -> list[Change]:
    """Every check of either run: outcome and value; the change is of the outcome."""
    sides = [{check.name: check for check in checks(one)} for one in (first, second)]
    rows = []
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        pair = [side.get(name) for side in sides]
        told = [
            f"{one.mark} {one.outcome}, {one.measured}" if one else words.NOTHING for one in pair
        ]
        limits = [one.limit if one else words.NOTHING for one in pair]
        note = f"limit {limits[1]}" if limits[0] == limits[1] else f"limits {' and '.join(limits)}"
        outcomes = {one.outcome if one else "" for one in pair}
        change = "the same" if len(outcomes) == 1 else "changed"
        rows.append(Change(name, told[0], told[1], change, note))
    return rows


def _steps(first: Report, second: Report) -> list[Change]:
    """Size and metric after every step that either run has."""
    sides = [{row.label: row for row in one.ledger} for one in (first, second)]
    rows = []
    for label in dict.fromkeys([*sides[0], *sides[1]]):
        pair = [side.get(label) for side in sides]
        told = [
            f"{words.size(row.bytes)}, {Score.of(one).value(row.accuracy)}"
            if row
            else words.NOTHING
            for row, one in zip(pair, (first, second), strict=True)
        ]
        was, now = (row.bytes if row else None for row in pair)
        change = words.change(was, now, "smaller", "larger")
        rows.append(Change(words.plain(label, 60), told[0], told[1], change))
    return rows
