"""Where each node ran, and how long: read from the profile that ONNX Runtime writes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_KERNEL = "_kernel_time"


@dataclass(frozen=True)
class Placement:
    """One node of the graph that the runtime made: fused kernels appear under their own op."""

    node: str
    op: str
    provider: str
    microseconds: float = 0.0
    """Median of its runs; the profile counts whole microseconds."""


def read_profile(path: Path) -> list[Placement]:
    """The placements in a profile file, in the order of execution."""
    return placements(json.loads(path.read_text()))


def placements(events: Iterable[Mapping[str, Any]]) -> list[Placement]:
    """One placement per node of the profile's events, however often it ran."""
    runs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith(_KERNEL):
            continue
        # Bodies of If and Loop may repeat a name of the outer graph; the index tells them apart.
        key = (event["name"], str(event["args"].get("node_index", "")))
        runs.setdefault(key, []).append(event)
    return [_placement(one) for one in runs.values()]


def _placement(runs: Sequence[Mapping[str, Any]]) -> Placement:
    arguments = runs[0]["args"]
    return Placement(
        node=runs[0]["name"].removesuffix(_KERNEL),
        op=arguments.get("op_name", ""),
        provider=arguments.get("provider", ""),
        microseconds=float(statistics.median(event["dur"] for event in runs)),
    )
