"""Two models layer by layer, in the terminal: the worst, the first cliff, and what restores."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deploypipe.core.files import Json
from deploypipe.report.words import NOTHING, decibel, number, plain

SHOWN = 30

FEW = 0.25
"""Share of the tensors below which a comparison says little."""


def layers_table(found: Mapping[str, Json]) -> RenderableType:
    """The worst layers by SQNR, and one line for each finding."""
    rows = [row for row in found["layers"]["rows"] if row["fits"]]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("layer", "operator", "SQNR", "drop", "largest error"):
        table.add_column(column, justify="left" if column in ("layer", "operator") else "right")
    for row in rows[:SHOWN]:
        cells = (plain(row["name"], 60), row["op"], _sqnr(row), decibel(row["drop_db"]))
        table.add_row(*map(Text, (*cells, _value(row["max_abs_error"]))))
    lines = [*_coverage(found["layers"]), _cliff(found["layers"])]
    lines += [_restored(found["restore"])] if "restore" in found else []
    return Group(table, *map(Text, lines))


def _coverage(layers: Mapping[str, Json]) -> list[str]:
    """How many tensors were compared, and that it says little where they are few."""
    of, paired = layers["of"], len(layers["rows"])
    count = sum(row["fits"] for row in layers["rows"])
    shown = (
        f"the worst {SHOWN} are shown (--json tells all)" if count > SHOWN else "the worst first"
    )
    told = f"{count} of the {of} tensors of the reference compared; {shown}."
    if count < paired:
        told += f" {paired - count} more have other shapes, as after channels were removed."
    if paired < of:
        told += f" {of - paired} are paired with nothing, as after nodes were fused."
    if count >= FEW * of:
        return [told]
    then = "Compare with the file that the candidate was made from, or pair more with --names."
    return [told, f"So few say little of the rest. {then}"]


def _sqnr(row: Mapping[str, Json]) -> str:
    return "equal" if row["equal"] else decibel(row["sqnr_db"])


def _value(value: float | None) -> str:
    return NOTHING if value is None else number(value, 3)


def _cliff(layers: Mapping[str, Json]) -> str:
    cliff = layers["cliff"]
    if cliff is None:
        return f"No layer loses {layers['cliff_db']:g} dB of what it reads."
    return f"First cliff: {plain(cliff['name'])} ({cliff['op']}) loses {cliff['drop_db']:.1f} dB."


def _restored(found: Mapping[str, Json]) -> str:
    names = ", ".join(plain(unit["name"]) for unit in found["units"][:8])
    names += ", ..." if len(found["units"]) > 8 else ""
    span = f"from {found['before']:.5g} to {found['after']:.5g}"
    if not found["units"]:
        return "No layer has to go back to float."
    if not found["enough"]:
        return f"All {len(found['units'])} layers in float do not restore it: {span}."
    return f"In float again, {names} would restore it: {span}, found in {found['tried']} tries."
