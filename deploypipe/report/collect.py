"""One result out of what the stages noted: the dictionary that becomes ``report.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
) -> dict[str, Json]:
    """Assemble the report.  The same finished stages always give the same report."""
    report: dict[str, Json] = {
        "version": VERSION,
        "name": name,
        "created": max((told.made for told in stages), default=""),
        "command": command,
        "recipe": recipe,
        "target": target,
        "data": data,
        "stages": [_entry(told) for told in stages],
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


def _entry(told: Told) -> dict[str, Json]:
    notes = told.artifact.notes
    shown = {key: value for key, value in notes.items() if key not in _ELSEWHERE}
    return {
        "step": told.step,
        "made": told.made,
        "kind": told.artifact.kind,
        "seconds": told.seconds,
        "digest": told.artifact.digest,
        "bytes": told.artifact.bytes,
        "options": dict(told.options),
        "changes": list(notes.get("changes", [])),
        "refusals": list(notes.get("refusals", [])),
        "notes": shown,
    }
