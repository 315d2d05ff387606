"""The answer of ``deploypipe bench`` in a few lines of Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from deploypipe.core.files import Json
from deploypipe.report import words
from deploypipe.report.markdown import safe, table


def bench_markdown(found: Mapping[str, Json]) -> str:
    """One model's latency, or two models' answer with its interval."""
    files = [words.plain(file, 200) for file in found["files"]]
    if "answer" not in found:
        latency = found["latency_ms"]
        told = (
            f"p50 {words.milliseconds(latency['p50'])} over {words.counted(latency['n'], 'call')}"
        )
        return f"**{safe(files[0])}**: {safe(told)}\n"
    head = f"**{safe(str(found['answer']).upper())}**: {safe(words.plain(found.get('why', '')))}\n"
    ratio = found.get("ratio")
    if ratio is None:
        return head
    between = words.interval(found.get("low"), found.get("high"), "x")
    row = [*files, words.exact_ratio(ratio), between]
    header = ("candidate", "baseline", "time ratio", "interval")
    return f"{head}\n{table(header, [tuple(map(safe, row))], 'llrr')}\n"
