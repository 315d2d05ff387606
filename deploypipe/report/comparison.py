"""The table that everyone looks for: the original beside the candidate."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from deploypipe.report import words
from deploypipe.report.schema import LatencySummary, Report, Side
from deploypipe.report.scores import Score


@dataclass(frozen=True)
class Row:
    """One line of the table, as words; ``note`` is the interval, where there is one."""

    label: str
    reference: str
    candidate: str
    change: str
    note: str = ""


def comparison(report: Report) -> list[Row]:
    """Rows for what was measured of either side; nothing is invented for the rest."""
    before, after = report.reference or Side(), report.candidate or Side()
    rows = [
        _counted("size on disk", before.bytes, after.bytes, ("smaller", "larger"), True),
        _counted("parameters", before.parameters, after.parameters, ("fewer", "more")),
        _counted("MACs", before.macs, after.macs, ("fewer", "more")),
        _counted("graph nodes", before.nodes, after.nodes, ("fewer", "more")),
        *_latency(report, before.latency_ms, after.latency_ms),
        _accuracy(report, before.accuracy, after.accuracy),
    ]
    return [row for row in rows if {row.reference, row.candidate} != {words.NOTHING}]


def _counted(
    label: str, before: int | None, after: int | None, sides: tuple[str, str], size: bool = False
) -> Row:
    say = words.size if size else words.count
    return Row(label, say(before), say(after), words.change(before, after, *sides))


def _latency(
    report: Report, before: LatencySummary | None, after: LatencySummary | None
) -> list[Row]:
    paired = report.latency
    note = speedup_interval(report)
    p50 = (before.p50 if before else None, after.p50 if after else None)
    p90 = (before.p90 if before else None, after.p90 if after else None)
    change = words.change(*p50, "faster", "slower")
    if paired and paired.ratio:
        change = words.change(1.0, paired.ratio, "faster", "slower")
    rest = words.change(*p90, "faster", "slower")
    return [
        Row("latency p50", words.milliseconds(p50[0]), words.milliseconds(p50[1]), change, note),
        Row("latency p90", words.milliseconds(p90[0]), words.milliseconds(p90[1]), rest),
        _cold(report),
        _peak(report),
    ]


def _cold(report: Report) -> Row:
    """Opening the model plus its first answer: the median over fresh sessions."""
    paired = report.latency
    before = median(paired.reference_cold_ms) if paired and paired.reference_cold_ms else None
    after = median(paired.candidate_cold_ms) if paired and paired.candidate_cold_ms else None
    change = words.change(before, after, "faster", "slower")
    return Row("cold start", words.milliseconds(before), words.milliseconds(after), change)


def _peak(report: Report) -> Row:
    """Peak memory of a fresh process that opened only this model first."""
    paired = report.latency
    starts = [paired.reference_start, paired.candidate_start] if paired else [None, None]
    before, after = (start.peak_bytes if start else None for start in starts)
    change = words.change(before, after, "less", "more")
    return Row("peak memory", words.size(before), words.size(after), change)


def speedup_interval(report: Report) -> str:
    """The interval of the speed-up, the reciprocal of the ratio's."""
    ends = speedup_ends(report)
    return words.interval(*ends, "x") if ends else ""


def speedup_ends(report: Report) -> tuple[float, float] | None:
    """Low and high end of reference time over candidate time."""
    paired = report.latency
    if paired is None or not paired.low or not paired.high or min(paired.low, paired.high) <= 0:
        return None
    return 1 / paired.high, 1 / paired.low


def _accuracy(report: Report, before: float | None, after: float | None) -> Row:
    paired = report.accuracy
    before = paired.reference if paired and paired.reference is not None else before
    after = paired.candidate if paired and paired.candidate is not None else after
    score, change, note = Score.of(report), words.NOTHING, ""
    if paired and paired.drop_points is not None:
        change = score.change(paired.drop_points)
        if paired.low is not None and paired.high is not None:
            note = score.change_interval(paired.low, paired.high)
    return Row(score.name, score.value(before), score.value(after), change, note)


def remarks(report: Report) -> list[str]:
    """Sentences below the table: how much was measured, and what it can prove."""
    return [*_accuracy_remarks(report), *_latency_remarks(report)]


def _accuracy_remarks(report: Report) -> list[str]:
    paired = report.accuracy
    if paired is None or paired.samples is None:
        return []
    name, samples = Score.of(report).name.capitalize(), words.counted(paired.samples, "sample")
    told = [f"{name} on {samples}, the same for both models."]
    if paired.low is not None and paired.high is not None and paired.confidence is not None:
        sure = words.confidence(paired.confidence, paired.one_sided)
        told.append(f"Its interval holds{' at each end' if paired.one_sided else ''}{sure}.")
    if paired.flips_to_wrong is not None and paired.flips_to_right is not None:
        answers = words.counted(paired.flips_to_wrong, "answer")
        how = f"flipped to wrong, {paired.flips_to_right} to right"
        told.append(f"{answers} {'changed' if paired.of_reference else how}.")
    if paired.mcnemar_p is not None:
        told.append(f"McNemar's p is {words.number(paired.mcnemar_p, 2)}.")
    if paired.provable_margin_points is not None:
        margin = words.quantity(paired.provable_margin_points, paired.unit)
        told.append(f"A drop of {margin} is the smallest that this many samples can rule out.")
    return told


def _latency_remarks(report: Report) -> list[str]:
    paired = report.latency
    if paired is None:
        return []
    facts = [
        words.counted(paired.threads, "thread") if paired.threads is not None else "",
        f"batch {paired.batch}" if paired.batch is not None else "",
        words.counted(paired.rounds, "interleaved round") if paired.rounds is not None else "",
    ]
    told = [text for text in facts if text]
    remarks = [f"Latency with {', '.join(told)}."] if told else []
    if paired.aa_half_width is not None:
        noise = words.number(100 * paired.aa_half_width, 2)
        remarks.append(f"The reference against itself differs by up to {noise} % on this host.")
    return remarks
