"""What single commands print: facts as rows, a plan, a catalogue, a latency answer."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deploypipe.core.files import Json
from deploypipe.core.options import in_words
from deploypipe.report.words import counted, plain, size

_MOST = 12  # lines of a list that a terminal shows
_WIDEST = 4000  # characters of a line


def _grid(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    table.show_header = bool(columns and columns[0])
    return table


def _text(line: str) -> Text:
    """A line without rich's markup and without a stranger's escape sequences."""
    return Text(plain(line, _WIDEST))


def key_table(found: Mapping[str, Json]) -> RenderableType:
    """One row per key; nested values under their key."""
    table = _grid("", "")
    for key, value in found.items():
        for number, line in enumerate(_lines(value)):
            table.add_row(_text(key.replace("_", " ") if not number else ""), _text(line))
    return table


def _lines(value: Json) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{key}: {_inline(item)}" for key, item in value.items()] or ["none"]
    if isinstance(value, list):
        return _first(value)
    return [_inline(value)]


def _first(value: list[Json]) -> list[str]:
    """As many as a terminal shows, and how many there are beside."""
    shown = [str(item) for item in value[:_MOST]]
    if len(value) > _MOST:
        shown.append(f"... and {len(value) - _MOST} more (--json shows all)")
    return shown or ["none"]


def _inline(value: Json) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_first(value))
    return json.dumps(value) if isinstance(value, Mapping) else str(value)


def plan_table(found: Mapping[str, Json]) -> RenderableType:
    """The steps with samples, time, memory and options; then the splits and the sum."""
    table = _grid("step", "samples", "about", "memory", "options")
    for step in found["steps"]:
        samples = ", ".join(f"{count} {name}" for name, count in step["samples"].items())
        options = ", ".join(f"{key}={_short(value)}" for key, value in step["options"].items())
        cells = (step["step"], samples, _time(step["seconds"]), size(step["memory"]), options)
        table.add_row(*map(_text, cells))
    splits = found["data"]["splits"].items()
    lines = [f"{name}: {counted(split['samples'], 'sample')}" for name, split in splits]
    lines += found["data"]["notes"]
    total = f"about {_time(found['seconds'])} and {size(found['memory'])} of memory in all"
    return Group(table, Text(""), *map(_text, lines), _text(total))


def _short(value: Json) -> str:
    text = in_words(value)
    return text if len(text) < 60 else text[:57] + "..."


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


def catalogue_table(found: Mapping[str, Json]) -> RenderableType:
    """Kind by kind: name, what it does, options."""
    parts: list[RenderableType] = []
    for kind, things in found.items():
        table = _grid(kind, "does", "options")
        for name, thing in things.items():
            options = "\n".join(f"{key}: {text}" for key, text in thing["options"].items())
            table.add_row(Text(name), Text(thing["does"]), Text(options))
        parts += [table, Text("")]
    return Group(*parts)


def bench_table(found: Mapping[str, Json]) -> RenderableType:
    """One model: its latency.  Two: the answer first, then the ratio with its interval."""
    if "answer" not in found:
        latency = found["latency_ms"]
        calls = counted(latency["n"], "call")
        start = f"; {_start(found['start'])}" if found.get("start") else ""
        return _text(f"{found['files'][0]}: {_percentiles(latency)} over {calls}{start}")
    lines = [f"{found['answer'].upper()}: {found['why']}"]
    if "ratio" in found:  # a model that crashed has none
        lines += _bench_lines(found)
    return Group(*map(_text, lines))


def _bench_lines(found: Mapping[str, Json]) -> list[str]:
    candidate, baseline = found["files"]
    low, high = (_bound(found[key]) for key in ("low", "high"))
    fresh = {"process": "process", "session": "set of sessions"}[found.get("fresh", "session")]
    rounds = f"{counted(found['rounds'], 'round')} (a fresh {fresh} each)"
    threads = "" if found["threads"] is None else f", {counted(found['threads'], 'thread')}"
    lines = [
        f"{candidate} takes {found['ratio']:.3f} of the time of {baseline} ({low} to {high} "
        f"at {100 * found['confidence']:.3g}% confidence), {rounds}, batch {found['batch']}{threads}",
        f"noise: {baseline} against itself differs by up to "
        f"{_bound(found['aa_half_width'], '.1%')}",
    ]
    for name, side in ((candidate, "candidate"), (baseline, "reference")):
        if start := found.get(f"{side}_start"):
            lines.append(f"{name}: {_percentiles(found[f'{side}_latency_ms'])}; {_start(start)}")
    return lines


def _percentiles(latency: Mapping[str, Json]) -> str:
    """Those that the count supports."""
    known = [key for key in ("p50", "p90", "p99") if latency.get(key) is not None]
    return ", ".join(f"{key} {latency[key]:.3f} ms" for key in known)


def _start(start: Mapping[str, Json]) -> str:
    peak = start["peak_bytes"]
    memory = "" if peak is None else f", peak memory {size(peak)}"
    return f"opens in {start['open_ms']:.1f} ms, first answer {start['first_ms']:.1f} ms{memory}"


def _bound(value: float | None, form: str = ".3f") -> str:
    return "unbounded" if value is None else format(value, form)
