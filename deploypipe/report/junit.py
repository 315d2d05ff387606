"""A verdict as JUnit XML: one test case for every check, as continuous integration shows them."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree

from deploypipe.core.files import Json
from deploypipe.report import words
from deploypipe.report.headline import checks, headline
from deploypipe.report.schema import CheckEntry, Report, read_report

_PROPERTIES = ("measured", "low", "high", "limit", "unit")


def render_junit(report: Mapping[str, Json] | Report) -> str:
    """A failed check is a failure, an undecided one is skipped with its reason, and a run that
    judged nothing is an error.

    Raises:
        UserError: the report is of another version or shape.
    """
    read = read_report(report)
    suite = ElementTree.Element("testsuite", _attributes(read))
    _properties(suite, _facts(read))
    for entry, told in zip(read.verdict.checks if read.verdict else [], checks(read), strict=True):
        case = ElementTree.SubElement(
            suite, "testcase", classname=_classname(read), name=told.name, time="0"
        )
        _properties(case, {name: getattr(entry, name) for name in _PROPERTIES})
        _outcome(case, entry, f"measured {told.measured}, limit {told.limit}; {told.why}")
    if read.verdict is None:
        case = ElementTree.SubElement(
            suite, "testcase", classname=_classname(read), name="verdict", time="0"
        )
        ElementTree.SubElement(case, "error", message=headline(read).reason)
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    text = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _classname(report: Report) -> str:
    return f"deploypipe.{words.plain(report.name, 100)}"


def _attributes(report: Report) -> dict[str, str]:
    entries = report.verdict.checks if report.verdict else []
    counts = {
        "tests": max(1, len(entries)) if report.verdict is None else len(entries),
        "failures": sum(entry.outcome == "FAIL" for entry in entries),
        "errors": int(report.verdict is None),
        "skipped": sum(entry.outcome == "UNDECIDED" for entry in entries),
    }
    seconds = sum(stage.seconds or 0.0 for stage in report.stages)
    told = {"name": words.plain(report.name, 100), **{k: str(v) for k, v in counts.items()}}
    told["time"] = f"{seconds:.3f}"
    return told | ({"timestamp": words.plain(report.created, 40)} if report.created else {})


def _facts(report: Report) -> dict[str, object]:
    speed = report.latency.speedup if report.latency else None
    drop = report.accuracy.drop_points if report.accuracy else None
    sides = {"reference": report.reference, "candidate": report.candidate}
    told: dict[str, object] = {"verdict": headline(report).outcome}
    told |= {f"{name} bytes": side.bytes for name, side in sides.items() if side}
    return told | {"speedup": speed, "drop": drop}


def _properties(parent: ElementTree.Element, values: Mapping[str, object]) -> None:
    known = {name: value for name, value in values.items() if value not in (None, "")}
    if not known:
        return
    properties = ElementTree.SubElement(parent, "properties")
    for name, value in known.items():
        ElementTree.SubElement(properties, "property", name=name, value=words.plain(value, 100))


def _outcome(case: ElementTree.Element, entry: CheckEntry, why: str) -> None:
    message = words.plain(why, 1000)
    if entry.outcome == "FAIL":
        ElementTree.SubElement(case, "failure", message=message, type="FAIL").text = message
    elif entry.outcome == "UNDECIDED":
        ElementTree.SubElement(case, "skipped", message=f"undecided: {message}")
