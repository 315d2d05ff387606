"""One result out of what the stages noted: the dictionary that becomes ``report.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploypipe.core.artifact import Artifact
from deploypipe.core.files import Json
from deploypipe.report.schema import VERSION

SECTIONS = (
    "ledger",
    "reference",
    "candidate",
    "accuracy",
    "latency",
    "drift",
    "layers",
    "pictures",
    "placement",
    "kernels",
    "verdict",
    "environment",
)
"""What the validate stage notes and the report shows under the same name."""

_ELSEWHERE = {"changes", "refusals", *SECTIONS} - {"accuracy"}


@dataclass(frozen=True)
class Told:
    """A finished stage as the report tells it; ``made`` is UTC in ISO form."""

    step: str
    artifact: Artifact
    seconds: float
    made: str
    options: Mapping[str, Json]


def collect(
    stages: Sequence[Told],
    *,
    name: str,
    recipe: Json,
    data: Json,
    target: Json,
    command: str,
    files: Mapping[str, str],
    folder: Path | None = None,
) -> dict[str, Json]:
    """Assemble the report.  The same finished stages always give the same report.

    Stages tell their files relative to ``folder``.
    """
    report: dict[str, Json] = {
        "version": VERSION,
        "name": name,
        "created": max((told.made for told in stages), default=""),
        "command": command,
        "recipe": recipe,
        "target": target,
        "data": data,
        "stages": [_entry(told, folder) for told in stages],
        "history": [
            {"label": told.step, "accuracy": told.artifact.notes["accuracy"]}
            for told in stages
            if isinstance(told.artifact.notes.get("accuracy"), float)
        ],
        "files": dict(files),
    }
    for told in stages:
        if "verdict" in told.artifact.notes:
            report |= {
                key: told.artifact.notes[key] for key in SECTIONS if key in told.artifact.notes
            }
    return report


def _entry(told: Told, folder: Path | None) -> dict[str, Json]:
    notes = told.artifact.notes
    shown = {key: value for key, value in notes.items() if key not in _ELSEWHERE}
    return {
        "step": told.step,
        "made": told.made,
        "kind": told.artifact.kind,
        "seconds": told.seconds,
        "digest": told.artifact.digest,
        "bytes": told.artifact.bytes,
        "file": _inside(told.artifact.path, folder),
        "options": dict(told.options),
        "changes": list(notes.get("changes", [])),
        "refusals": list(notes.get("refusals", [])),
        "notes": shown,
    }


def _inside(path: Path, folder: Path | None) -> str | None:
    """The path relative to ``folder``; None elsewhere, for a report names no place of a machine."""
    if folder is None or not path.absolute().is_relative_to(folder.absolute()):
        return None
    return path.absolute().relative_to(folder.absolute()).as_posix()
