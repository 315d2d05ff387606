"""What a test of a removal found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One test's answer: ``error`` against ``limit``, both relative to the largest output.

    ``ok`` is None where the test says nothing, and then ``error`` is NaN; ``why`` is a sentence.
    ``shapes`` are those of the inputs that it ran on, by name.
    """

    name: str
    error: float
    limit: float
    ok: bool | None
    why: str
    shapes: Mapping[str, list[int]] | None = None


def judged(name: str, error: float, limit: float, what: str) -> Finding:
    """Passed if the error is within the limit; a NaN is not."""
    ok = error <= limit
    return Finding(name, error, limit, ok, f"{what} {error:.1e}, allowed {limit:.1e}")


def not_applicable(name: str, limit: float, reason: str) -> Finding:
    """The test says nothing, for a reason."""
    return Finding(name, math.nan, limit, None, f"not applicable: {reason}")


def shapes_of(feeds: Mapping[str, Any]) -> dict[str, list[int]]:
    """The shapes of arrays, by name."""
    return {name: list(array.shape) for name, array in feeds.items()}


def told(finding: Finding) -> dict[str, object]:
    """A finding as plain data, for a certificate."""
    error = finding.error if finding.ok is not None else None
    found = {"test": finding.name, "error": error, "limit": finding.limit, "result": finding.why}
    return {**found, **({"inputs": dict(finding.shapes)} if finding.shapes else {})}
