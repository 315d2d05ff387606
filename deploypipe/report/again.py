"""The command behind every number: how a reader gets it again."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from deploypipe.core.files import Json
from deploypipe.report import words
from deploypipe.report.schema import Report, StageEntry
from deploypipe.report.stages import command

_DEFAULTS: dict[str, Json] = {"metric": {"top1": {}}, "batch": 1, "seconds": 40.0}
"""What the command line takes where it is told nothing."""


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
    asked, timed, where = _asked(report), _timed(report), _target(report)
    told = []
    if where is not None:
        where = ["--data", given[2], *where]
        told.append(
            Again("latency alone", _line("deploypipe", "bench", here, there, *where, *timed))
        )
    if where is not None and asked is not None:
        how = [*where, *asked]
        line = _line("deploypipe", "validate", there, here, *how, *timed, *_budget(report))
        told.insert(0, Again("accuracy, drift and verdict", line))
        against = next((s for s in steps if str(s.step) == report.layers.against), None)
        if report.layers.rows and against:
            pair = f"{folder}/{against.file}", here
            told.append(Again("layers", _line("deploypipe", "validate", *pair, *how, "--layers")))
    if any("fused" in stage.notes for stage in report.stages):
        told.append(Again("what fused in 8 bits", _line("deploypipe", "doctor", "--model", here)))
    return told


def _digest(report: Report, side: str) -> str | None:
    found = report.reference if side == "reference" else report.candidate
    return found.digest if found else None


def _options(report: Report) -> dict[str, Json]:
    """Of the validate step, without those that are as on the command line."""
    found = next((s.options for s in reversed(report.stages) if s.step == "validate"), {})
    return {name: value for name, value in found.items() if value != _DEFAULTS.get(name)}


def _asked(report: Report) -> list[str] | None:
    """Which samples, and how they are scored; None where the command line has no word for it."""
    options = _options(report)
    metric, samples = _metric(options.get("metric")), options.get("samples")
    if metric is None or options.get("output") is not None:
        return None
    return [*metric, *([] if samples is None else ["--samples", str(samples)])]


def _metric(spec: Json) -> list[str] | None:
    name, options = _named(spec)
    parts = [str(options["function"])] if "function" in options else []
    parts += [f"{key}={json.dumps(v)}" for key, v in options.items() if key != "function"]
    if any("," in part for part in parts):
        return None  # a comma ends an option
    return ["--metric", ":".join([name, *([",".join(parts)] if parts else [])])] if name else []


def _timed(report: Report) -> list[str]:
    known = {name: _options(report).get(name) for name in ("batch", "seconds")}
    return [w for name, v in known.items() if v is not None for w in (f"--{name}", f"{v:g}")]


def _target(report: Report) -> list[str] | None:
    """As :func:`_asked`."""
    name, options = _named(report.target or report.recipe.get("target"))
    if set(options) - {"threads"}:
        return None
    told = ["--target", name] if name not in ("", "cpu") else []
    return told + [word for threads in options.values() for word in ("--threads", str(threads))]


def _named(spec: Json) -> tuple[str, dict[str, Json]]:
    """The name and the options of a spec; no name for none."""
    if isinstance(spec, dict) and len(spec) == 1:
        ((name, options),) = spec.items()
        return str(name), dict(options or {})
    return (spec if isinstance(spec, str) else ""), {}


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
