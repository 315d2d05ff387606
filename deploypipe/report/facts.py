"""Sections that are names and values: how alike the answers are, the data, the environment."""

from __future__ import annotations

from deploypipe.core.files import Json
from deploypipe.report import words
from deploypipe.report.schema import Report
from deploypipe.report.stages import fitting, pairs

_ELSEWHERE = {"worst", "worst_samples"}

_SILENT = {"reference_nonfinite", "candidate_nonfinite", "new_nonfinite_values"}
"""Not told where there is none."""

_NAMES = {
    "top1_agreement": "same class",
    "sqnr_db": "SQNR",
    "max_abs_error": "largest error",
    "mean_kl": "mean KL",
    "p99_kl": "p99 of KL",
    "new_nonfinite": "samples with new NaN or infinity",
    "new_nonfinite_values": "values newly NaN or infinity",
    "reference_nonfinite": "NaN or infinity from the original",
    "candidate_nonfinite": "NaN or infinity from the candidate",
    "first_nonfinite": "first made by",
}
"""What the validate stage notes, as a person says it; other keys are told as they are."""


def drift_facts(report: Report) -> list[tuple[str, str]]:
    """How alike the two models answer: ``top1_agreement`` is a share, ``sqnr_db`` is in dB."""
    told = []
    known = {
        key: value
        for key, value in report.drift.items()
        if value not in (None, []) and key not in _ELSEWHERE and not (value == 0 and key in _SILENT)
    }
    for key, value in known.items():
        name = _NAMES.get(key) or words.plain(key.removesuffix("_db").replace("_", " "), 60)
        if key.endswith("agreement") and isinstance(value, int | float):
            told.append((name, words.percent(value)))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            told.append((name, words.quantity(value, "dB" if key.endswith("_db") else "")))
        else:
            told += pairs({name: value})
    return told[:40]


def environment_facts(report: Report) -> list[tuple[str, str]]:
    """The machine and the packages; what a measurement repeats of its host is told once."""
    target = {} if report.target is None else {"target": report.target}
    shown = dict(report.environment)
    host = shown.get("host")
    if isinstance(host, dict):
        shown["host"] = {name: value for name, value in host.items() if shown.get(name) != value}
        if not shown["host"]:
            del shown["host"]
    return pairs({**target, **shown})[:80]


def data_facts(report: Report) -> dict[str, Json] | None:
    """Source, splits and notes; None where the report has no data."""
    if report.data is None:
        return None
    told = {"source": report.data.source, "preprocess": report.data.preprocess}
    told |= report.data.model_extra or {}
    return {
        "facts": pairs({name: value for name, value in told.items() if value is not None}),
        "splits": report.data.splits,
        "notes": fitting(report.data.notes, 8_000),
    }
