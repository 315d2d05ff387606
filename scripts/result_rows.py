"""The rows of a bench: one figure each, kept as JSON with the machine, and read back by name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from deploypipe.core.files import write_text
from deploypipe.runtime import host

RESULTS = Path(__file__).resolve().parent / "results"
SEED = 0

Row = dict[str, Any]
Facts = dict[str, Any]


def one_row(experiment: str, method: str, metric: str, value: object, seconds: float) -> Row:
    """A row of the results; seconds are those of the work that the value comes from."""
    if isinstance(value, float) and not math.isfinite(value):
        value = str(value)
    same = {"experiment": experiment, "method": method, "metric": metric, "value": value}
    return {**same, "seconds": round(seconds, 2), "seed": SEED}


def by_experiment(rows: list[Row]) -> dict[str, dict[str, Facts]]:
    """experiment -> method -> metric -> value."""
    found: dict[str, dict[str, Facts]] = {}
    for row in rows:
        facts = found.setdefault(row["experiment"], {}).setdefault(row["method"], {})
        facts[row["metric"]] = row["value"]
    return found


def keep(name: str, command: str, rows: list[Row]) -> None:
    """The rows of a full run, with the machine that made them."""
    text = {"environment": host(), "command": command, "rows": rows}
    write_text(RESULTS / f"{name}.json", json.dumps(text, indent=1) + "\n")


def kept(name: str) -> list[Row]:
    """The rows of the last full run."""
    rows: list[Row] = json.loads((RESULTS / f"{name}.json").read_text())["rows"]
    return rows
