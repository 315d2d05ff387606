"""What the report tells of removed channels: every certificate in short."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from deploypipe.core.files import Json
from deploypipe.report.certificate import shortened

LONGEST = 80_000
"""Bytes of JSON that all certificates of a stage may take in the report, about."""


def in_short(
    certificates: Sequence[Mapping[str, Json]], longest: int = LONGEST
) -> list[dict[str, Json]]:
    """As :func:`shortened` tells them, of the tensors only as many as fit, the largest first."""
    return [_fitting(shortened(one), longest // len(certificates)) for one in certificates]


def _fitting(told: dict[str, Json], longest: int) -> dict[str, Json]:
    room = longest - len(json.dumps({**told, "removed": []}))
    for count, tensor in enumerate(told["removed"]):
        room -= len(json.dumps(tensor)) + 2
        if room < 0:
            left = told["left"] + len(told["removed"]) - count
            return {**told, "removed": told["removed"][:count], "left": left}
    return told
