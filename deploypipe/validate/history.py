"""What every run found, a line each; and the alarm when a value leaves the range of its past."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from deploypipe.core.files import Json, explained_os_errors

WINDOW, SIGMAS, LEAST = 40, 4.0, 10
"""The alarm looks at so many of the last values, and is silent before it has ``LEAST``."""


def append(file: Path, row: Json) -> None:
    """Add a line to a JSONL file; lines of processes side by side do not mix."""
    with explained_os_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab", buffering=0) as raw:  # one write, at the end: atomic for a line
            raw.write(f"{json.dumps(row, sort_keys=True)}\n".encode())


def past(file: Path, **same: Json) -> list[float]:
    """``measured`` of the rows whose entries are these; what is no row of ours is passed over."""
    if not file.is_file():
        return []
    values = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # half a line of a run that was killed
            continue
        if isinstance(row, dict) and all(row.get(key) == value for key, value in same.items()):
            values.append(row.get("measured"))
    return [float(value) for value in values if isinstance(value, int | float)]


def drift_alarm(values: Sequence[float], now: float) -> str | None:
    """Say so if ``now`` lies beyond four standard deviations of the last forty values."""
    window = values[-WINDOW:]
    if len(window) < LEAST:
        return None
    mean, sigma = statistics.fmean(window), statistics.stdev(window)
    if abs(now - mean) <= SIGMAS * sigma:
        return None
    return (
        f"{now:.3g} is beyond {SIGMAS:.0f} sigma of the last {len(window)} runs "
        f"({mean:.3g} +- {sigma:.2g})"
    )
