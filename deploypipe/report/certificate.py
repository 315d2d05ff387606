"""A certificate of removed channels in short: per tensor what went, and one chain of reasons each.

The certificate itself names every single cell and lies beside the model; a large model's is too long
to be read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from deploypipe.core.files import Json

TENSORS = 300
"""Tensors that are told, those that lost most first."""
LINKS = 6
"""Links of a chain of reasons at most."""
KINDS = 4
"""Kinds of cells of a tensor that get a chain of their own."""

Cell = tuple[str, int, int]


def shortened(certificate: Mapping[str, Json]) -> dict[str, Json]:
    """``removed``: per computed tensor the counts by kind and chains of reasons; ``weights`` and
    ``left`` count the tensors that are not told; ``merged``, ``folded`` what was made good for."""
    entries = [entry for entry in certificate["removed"] if entry["kind"] == "activation"]
    reasons = {
        (entry["tensor"], entry["axis"], cell["index"]): cell
        for entry in entries
        for cell in entry["cells"]
    }
    entries.sort(key=lambda entry: -len(entry["cells"]))
    how = Counter(one["how"] for one in certificate.get("compensations", []))
    return {
        "removed": [_tensor(entry, reasons) for entry in entries[:TENSORS]],
        "left": max(0, len(entries) - TENSORS),
        "weights": sum(entry["kind"] == "weight" for entry in certificate["removed"]),
        "merged": how["merge"],
        "folded": how["bias"],
        "proof": list(certificate.get("proof", [])),
    }


def _tensor(entry: Mapping[str, Json], reasons: Mapping[Cell, Json]) -> dict[str, Json]:
    counts = Counter(cell["is"] for cell in entry["cells"])
    first = {cell["is"]: cell["index"] for cell in reversed(entry["cells"])}
    return {
        "tensor": entry["tensor"],
        "axis": entry["axis"],
        "size": entry["size"],
        "is": dict(sorted(counts.items())),
        "chains": [
            _chain((entry["tensor"], entry["axis"], first[kind]), reasons)
            for kind, _ in counts.most_common(KINDS)
        ],
    }


def _chain(cell: Cell, reasons: Mapping[Cell, Json]) -> list[str]:
    """From a removed cell back to where it begins."""
    links: list[str] = []
    seen: set[Cell] = set()
    while cell in reasons and cell not in seen and len(links) < LINKS:
        seen.add(cell)
        found = reasons[cell]
        links.append(f"{cell[0]}[{cell[2]}] is {_state(found)}: {found['because']}")
        origin: Sequence[Json] = found["from"]
        if not origin:
            break
        cell = (str(origin[0][0]), int(origin[0][1]), int(origin[0][2]))
    return links


def _state(found: Mapping[str, Json]) -> str:
    if found["is"] == "constant":
        return f"constant {found['value']:.3g}"
    return str(found["is"])
