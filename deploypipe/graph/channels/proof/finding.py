"""What a test of a removal found."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One test's answer: ``error`` against ``limit``, both relative to the largest output.

    ``ok`` is None where the test says nothing, and then ``error`` is NaN; ``why`` is a sentence.
    """

    name: str
    error: float
    limit: float
    ok: bool | None
    why: str


def judged(name: str, error: float, limit: float, what: str) -> Finding:
    """Passed if the error is within the limit; a NaN is not."""
    ok = error <= limit
    return Finding(name, error, limit, ok, f"{what} {error:.1e}, allowed {limit:.1e}")


def not_applicable(name: str, limit: float, reason: str) -> Finding:
    """The test says nothing, for a reason."""
    return Finding(name, math.nan, limit, None, f"not applicable: {reason}")


def told(finding: Finding) -> dict[str, object]:
    """A finding as plain data, for a certificate."""
    error = finding.error if finding.ok is not None else None
    return {"test": finding.name, "error": error, "limit": finding.limit, "result": finding.why}
