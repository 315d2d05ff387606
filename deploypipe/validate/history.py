"""What every run found, a line each; and the alarm when a value leaves the range of its past."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from deploypipe.core.files import Json, digest_json, explained_os_errors
from deploypipe.runtime import host

WINDOW, SIGMAS, LEAST = 40, 4.0, 10
"""The alarm looks at so many of the last values, and is silent before it has ``LEAST``."""


def remember(file: Path, test: str, told: Mapping[str, Json], track: bool) -> str | None:
    """Add a check of a test; the alarm of its measured value, if there is one.

    ``track`` has an alarm look at the values of earlier runs on this machine.
    """
    same = {"test": test, "name": told["name"], "host": digest_json(host())[:12]}
    values = past(file, **same) if track and told["measured"] is not None else []
    now = datetime.now(UTC).isoformat(timespec="seconds")
    keys = ("outcome", "measured", "low", "high", "limit", "unit", "why")
    append(file, {"time": now, **same, **{key: told[key] for key in keys}})
    return drift_alarm(values, told["measured"]) if values else None


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
