"""The evidence of passes that prove their work, as files and in a few numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploypipe.core.files import write_text
from deploypipe.graph import Evidence
from deploypipe.graph.files import save


def write_evidence(evidence: Sequence[Evidence], folder: Path) -> list[Path]:
    """Write ``1/before.onnx``, ``1/after.onnx``, ``1/certificate.json`` and so on below ``folder``.

    Returns:
        The folders, one for each removal, for ``deploypipe verify-channels``.

    Raises:
        UserError: the place cannot be written to.
    """
    folders = []
    for number, one in enumerate(evidence, start=1):
        place = folder / str(number)
        place.mkdir(parents=True, exist_ok=True)
        save(one.before, place / "before.onnx")
        save(one.after, place / "after.onnx")
        write_text(place / "certificate.json", json.dumps(one.certificate) + "\n")
        folders.append(place)
    return folders


def summary(evidence: Sequence[Evidence]) -> list[str]:
    """Sentences on what was removed and on how it was proven."""
    lines = []
    for one in evidence:
        counts = _counts(one.certificate)
        lines.append(
            f"{sum(counts.values())} channels of computed tensors went: "
            + ", ".join(f"{count} {kind}" for kind, count in counts.items())
        )
        lines += [f"proof, {test['test']}: {test['result']}" for test in one.certificate["proof"]]
    return lines


def _counts(certificate: dict[str, Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for entry in certificate["removed"]:
        if entry["kind"] == "activation":
            for cell in entry["cells"]:
                counts[cell["is"]] = counts.get(cell["is"], 0) + 1
    return dict(sorted(counts.items()))
