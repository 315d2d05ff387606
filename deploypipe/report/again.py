"""The command behind every number: how a reader gets it again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from deploypipe.report import words
from deploypipe.report.schema import Report, StageEntry
from deploypipe.report.stages import command


@dataclass(frozen=True)
class Again:
    """What a command reproduces."""

    what: str
    command: str


def again(report: Report) -> list[Again]:
    """The run itself, and, where its files are known, one command for each kind of number."""
    told = [Again("everything", command(report))] if command(report) else []
    return told + _parts(report, _words(report))


def _words(report: Report) -> list[str]:
    given = report.command
    try:
        return given if isinstance(given, list) else shlex.split(given or "")
    except ValueError:
        return []


def _parts(report: Report, given: list[str]) -> list[Again]:
    if given[:2] != ["deploypipe", "run"] or len(given) < 3:
        return []
    folder = _after(given, "-o") or _after(given, "--output")
    files = [stage for stage in report.stages if stage.file and str(stage.file).endswith(".onnx")]
    if folder is None or not files:
        return []
    told = [Again("this page", _line("deploypipe", "report", f"{folder}/report.json"))]
    told += _certificates(files, folder)
    changed = [word for word in given if word.startswith(("data.", "target", "steps"))]
    if report.reference is None or changed:  # the file of the recipe is not what ran
        return told
    return told + _measured(report, given, files, folder)


def _measured(
    report: Report, given: list[str], files: list[StageEntry], folder: str
) -> list[Again]:
    before = next((s for s in files if s.digest == _digest(report, "reference")), None)
    steps = [s for s in files if s.step != "validate"]
    after = next((s for s in steps if s.digest == _digest(report, "candidate")), None)
    if before is None or after is None:
        return []
    there, here = f"{folder}/{before.file}", f"{folder}/{after.file}"
    data = ["--data", given[2]]
    told = [
        Again("accuracy, drift and verdict",
              _line("deploypipe", "validate", there, here, *data, *_budget(report))),
        Again("latency alone", _line("deploypipe", "bench", here, there, *data)),
    ]  # fmt: skip
    against = next((s for s in steps if str(s.step) == report.layers.against), None)
    if report.layers.rows and against:
        pair = f"{folder}/{against.file}", here
        told.append(Again("layers", _line("deploypipe", "validate", *pair, *data, "--layers")))
    if any("fused" in stage.notes for stage in report.stages):
        told.append(Again("what fused in 8 bits", _line("deploypipe", "doctor", "--model", here)))
    return told


def _digest(report: Report, side: str) -> str | None:
    found = report.reference if side == "reference" else report.candidate
    return found.digest if found else None


def _budget(report: Report) -> list[str]:
    limits = report.recipe.get("budget")
    given = limits.items() if isinstance(limits, dict) else []
    told = ",".join(f"{name}={value}" for name, value in given if value is not None)
    return ["--budget", told] if told else []


def _certificates(files: list[StageEntry], folder: str) -> list[Again]:
    told = []
    for stage in files:
        place = f"{folder}/{str(stage.file).rpartition('/')[0]}/channels"
        for number in range(1, min(len(stage.notes.get("channels") or []), 4) + 1):
            names = ("before.onnx", "after.onnx", "certificate.json")
            paths = [f"{place}/{number}/{name}" for name in names]
            line = _line("deploypipe", "verify-channels", *paths)
            told.append(Again(f"removed channels ({number})", line))
    return told


def _after(given: list[str], option: str) -> str | None:
    place = given.index(option) + 1 if option in given else len(given)
    return given[place] if place < len(given) else None


def _line(*parts: str) -> str:
    return words.plain(shlex.join(parts), 1000)
