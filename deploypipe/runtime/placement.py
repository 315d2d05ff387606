"""Where each node ran: read from the profile that ONNX Runtime writes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
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


def read_profile(path: Path) -> list[Placement]:
    """The placements in a profile file, in the order of execution."""
    return placements(json.loads(path.read_text()))


def placements(events: Iterable[Mapping[str, Any]]) -> list[Placement]:
    """One placement per node of the profile's events, however often it ran."""
    first: dict[tuple[str, str], Mapping[str, Any]] = {}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith(_KERNEL):
            continue
        # Bodies of If and Loop may repeat a name of the outer graph; the index tells them apart.
        key = (event["name"], str(event["args"].get("node_index", "")))
        first.setdefault(key, event)
    return [_placement(event) for event in first.values()]


def _placement(event: Mapping[str, Any]) -> Placement:
    arguments = event["args"]
    return Placement(
        node=event["name"].removesuffix(_KERNEL),
        op=arguments.get("op_name", ""),
        provider=arguments.get("provider", ""),
    )
