"""What runs in fewer bits and what stays float, out of the quantize stage's notes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploypipe.core.files import Json
from deploypipe.report import words
from deploypipe.report.layer_bars import worst_layers
from deploypipe.report.schema import Report, StageEntry
from deploypipe.report.stages import Lines, fitting

ROOM = 12_000
CAUSES, UNITS = 3, 12
"""Causes and units that are told, the worst first."""

_SPECS = ("method", "profile", "calibrator")


@dataclass(frozen=True)
class FloatWords:
    """A reason to stay float, and the nodes that have it."""

    why: str
    nodes: Lines


@dataclass(frozen=True)
class UnitWords:
    """One unit in 8 bits: SQNR of its output by itself and in the whole model, and its kernels."""

    name: str
    op: str
    alone: str
    carried: str
    kernels: str


@dataclass(frozen=True)
class EightBits:
    """The stage in words: facts, operators in 8 bits, reasons for float, what hurts most."""

    facts: list[tuple[str, str]]
    operators: list[tuple[str, int]]
    floats: list[FloatWords]
    warnings: Lines
    causes: list[str]
    units: list[UnitWords]
    corrections: list[str]


def eight_bits(report: Report) -> EightBits | None:
    """The last stage that planned 8-bit units or names its method; None where none did."""
    stages = [stage for stage in report.stages if {"fused", "method"} & set(stage.notes)]
    if not stages:
        return None
    notes = stages[-1].notes
    plan = _mapping(notes.get("plan"))
    units = plan.get("units")
    operators = Counter(
        words.plain(unit.get("op", "?"), 40)
        for unit in (units if isinstance(units, list) else [])
        if isinstance(unit, Mapping)
    )
    floats = _mapping(plan.get("kept_float"))
    return EightBits(
        facts=_facts(notes),
        operators=operators.most_common(30),
        floats=_floats(floats),
        warnings=_others(stages[-1], floats),
        causes=_causes(report, notes),
        units=_units(notes),
        corrections=_corrections(notes),
    )


def _mapping(value: Json) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _facts(notes: Mapping[str, Json]) -> list[tuple[str, str]]:
    told = [(key, _spec(notes[key])) for key in _SPECS if notes.get(key)]
    if "fused" in notes:
        units = f"{notes['fused']} of {notes.get('planned', '?')} planned"
        told = [("units in 8 bits", units), *told]
    if isinstance(notes.get("samples"), int):
        told.append(("calibrated on", words.counted(notes["samples"], "sample")))
    decision = _mapping(notes.get("decision"))
    times = _mapping(decision.get("time_relative_to_float"))
    if isinstance(decision.get("winner"), str):
        best = times.get(decision["winner"])
        shown = f", {words.number(best)} of the float model's time" if _real(best) else ""
        kept = _mapping(notes.get("outputs"))
        if any(kept.get(name) is not None for name in ("least_sqnr", "least_agreement")):
            shown += " before units were put back"
        told.append(("fastest placement", f"{decision['winner']}{shown}, of {len(times)} timed"))
    output = _mapping(notes.get("diagnosis")).get("output_db")
    if _real(output):
        told.append(("SQNR of the outputs", words.decibel(output)))
    return [(name, words.plain(text, 200)) for name, text in told]


def _spec(value: Json) -> str:
    """``{"percentile": {"share": 99.9}}`` as percentile (share 99.9)."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return str(value)
    ((name, options),) = value.items()
    told = ", ".join(f"{k} {v}" for k, v in _mapping(options).items())
    return f"{name} ({told})" if told else str(name)


def _floats(kept: Mapping[str, Json]) -> list[FloatWords]:
    """Nodes that share a reason are told together, the most frequent reason first."""
    reasons: dict[str, list[str]] = {}
    for name, why in kept.items():
        reasons.setdefault(words.plain(why, 300), []).append(str(name))
    ordered = sorted(reasons.items(), key=lambda item: -len(item[1]))[:40]
    share = ROOM // max(1, len(ordered))
    return [FloatWords(why, fitting(nodes, share)) for why, nodes in ordered]


def _others(stage: StageEntry, floats: Mapping[str, Json]) -> Lines:
    """Refusals of the stage that are not about one of these nodes."""
    told = [line for line in stage.refusals if not any(f"'{name}'" in line for name in floats)]
    return fitting(told, ROOM)


def _causes(report: Report, notes: Mapping[str, Json]) -> list[str]:
    """What costs most: as the stage noted it, else the layers with the least signal over noise."""
    noted = _mapping(notes.get("diagnosis")).get("causes", notes.get("causes"))
    if isinstance(noted, list):
        return [words.plain(each, 300) for each in noted[:CAUSES]]
    return [
        f"{line.name} ({line.op}): {line.sqnr} of signal over noise"
        + (f", {line.drop} less than what it reads" if line.drop != words.NOTHING else "")
        for line in worst_layers(report)[:CAUSES]
    ]


def _units(notes: Mapping[str, Json]) -> list[UnitWords]:
    """Those that lose most by themselves."""
    noted = _mapping(_mapping(notes.get("diagnosis")).get("units"))
    known = [(name, _mapping(one)) for name, one in noted.items()]
    known = [(name, one) for name, one in known if _real(one.get("alone_db"))]
    known.sort(key=lambda item: item[1]["alone_db"])
    return [
        UnitWords(
            words.plain(name, 60),
            words.plain(one.get("op", ""), 30),
            _decibel(one.get("alone_db")),
            _decibel(one.get("carried_db")),
            _kernels(one.get("int8_us"), one.get("float_us")),
        )
        for name, one in known[:UNITS]
    ]


def _decibel(value: Json) -> str:
    return words.decibel(value) if _real(value) else words.NOTHING


def _kernels(fewer: Json, floats: Json) -> str:
    """Microseconds in 8 bits and in float, where both were measured."""
    if not _real(fewer) or not _real(floats):
        return words.NOTHING
    return f"{words.number(fewer)} against {words.number(floats)} \N{MICRO SIGN}s"


def _corrections(notes: Mapping[str, Json]) -> list[str]:
    """What was tried to bring the outputs nearer, and what it gave."""
    noted = notes.get("corrections")
    told = []
    for step in noted if isinstance(noted, list) else []:
        one = _mapping(step)
        if not _real(one.get("before_db")) or not _real(one.get("after_db")):
            continue
        gave = f"{_decibel(one['before_db'])} to {_decibel(one['after_db'])}"
        kept = "kept" if one.get("accepted") is True else "not kept"
        why = f": {one['reason']}" if one.get("reason") else ""
        told.append(words.plain(f"{one.get('correction', '?')}, {gave}, {kept}{why}", 300))
    return told[:20]


def _real(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
