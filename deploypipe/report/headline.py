"""The verdict in one line with its reason, and each check as words."""

from __future__ import annotations

from dataclasses import dataclass

from deploypipe.report import words
from deploypipe.report.schema import CheckEntry, Report
from deploypipe.report.scores import Score

MARKS = {"PASS": "\N{CHECK MARK}", "FAIL": "\N{MULTIPLICATION X}", "UNDECIDED": "?"}
NO_VERDICT = "NO VERDICT"

_SIDES = {"least": "at least ", "most": "at most ", None: ""}


@dataclass(frozen=True)
class Headline:
    """What everyone reads first.  ``mark`` says the outcome without colour."""

    outcome: str
    mark: str
    reason: str


@dataclass(frozen=True)
class CheckWords:
    """One check, ready to be set in a table."""

    name: str
    measured: str
    interval: str
    limit: str
    outcome: str
    mark: str
    why: str


def headline(report: Report) -> Headline:
    """The outcome, and why: what was gained, or the checks that stand in the way."""
    if report.verdict is None:
        return Headline(NO_VERDICT, "\N{EN DASH}", "the run ended before anything was judged")
    outcome = report.verdict.outcome
    if outcome == "PASS":
        return Headline(outcome, MARKS[outcome], _reason_to_pass(report))
    deciding = [check for check in report.verdict.checks if check.outcome == outcome]
    if not deciding:
        return Headline(outcome, MARKS[outcome], "no check says why")
    first, *rest = deciding
    also = f"; also: {', '.join(map(_name, rest))}" if rest else ""
    return Headline(outcome, MARKS[outcome], f"{_name(first)}: {_why(first)}{also}")


def _reason_to_pass(report: Report) -> str:
    checks = report.verdict.checks if report.verdict else []
    held = f"all {len(checks)} checks hold" if len(checks) > 1 else "the one check holds"
    parts = [", ".join(gains(report)), held if checks else "no limit was set"]
    if checks and report.accuracy and not find_check(report, "accuracy"):
        parts.append("accuracy was not judged, no accuracy_drop is in the budget")
    return "; ".join(filter(None, parts))


def gains(report: Report) -> list[str]:
    """Up to three phrases: size, speed, accuracy of the candidate against the reference."""
    before, after = report.reference, report.candidate
    told: list[str] = []
    if before and after and before.bytes and after.bytes:
        told.append(words.change(before.bytes, after.bytes, "smaller", "larger"))
    if report.latency and report.latency.ratio:
        told.append(words.change(1.0, report.latency.ratio, "faster", "slower"))
    if report.accuracy and report.accuracy.drop_points is not None:
        score = Score.of(report)
        told.append(f"{score.name} {score.change(report.accuracy.drop_points)}")
    return told


def checks(report: Report) -> list[CheckWords]:
    """Every check of the verdict, in its order."""
    return [_check(check) for check in (report.verdict.checks if report.verdict else [])]


def find_check(report: Report, word: str) -> CheckEntry | None:
    """The first check with ``word`` in its name."""
    checks = report.verdict.checks if report.verdict else []
    return next((check for check in checks if word in check.name.lower()), None)


def _check(check: CheckEntry) -> CheckWords:
    return CheckWords(
        name=_name(check),
        measured=words.quantity(check.measured, check.unit),
        interval=words.interval(check.low, check.high, check.unit),
        limit=limit(check),
        outcome=check.outcome,
        mark=MARKS[check.outcome],
        why=words.plain(check.why),
    )


def _name(check: CheckEntry) -> str:
    return words.plain(check.name.replace("_", " "), 80)


def _why(check: CheckEntry) -> str:
    """``3.21 points, limit at most 1.00 points; 360 samples, 14 flip to wrong``."""
    why = words.plain(check.why)
    if check.measured is None or check.limit is None:
        return why or "not measured"
    told = f"{words.quantity(check.measured, check.unit)}, limit {limit(check)}"
    return f"{told}; {why}" if why else told


def limit(check: CheckEntry) -> str:
    """``at least 2.0x``, ``at most 0.50 points``, or the bare value where no side is noted."""
    if check.limit is None:
        return words.NOTHING
    return _SIDES[check.side] + words.quantity(check.limit, check.unit)
