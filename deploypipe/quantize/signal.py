"""How near a quantized model's outputs are to the float model's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.core.decibel import decibel, powers
from deploypipe.graph.parts import parts_of
from deploypipe.quantize.lookout import Arrays
from deploypipe.runtime import Target

EXACT = 300.0
"""dB where nothing was lost."""

Outputs = Sequence[Mapping[str, npt.NDArray[Any]]]
"""For every sample the model's outputs by name."""


def outputs_of(
    models: Sequence[ir.Model], samples: Sequence[Arrays], target: Target
) -> list[Outputs]:
    """The float outputs of every model."""
    found: list[Outputs] = []
    for model in models:
        with target.open(parts_of(model)) as session:
            answers = [session(sample) for sample in samples]
        found.append([{n: a for n, a in one.items() if _is_float(a)} for one in answers])
    return found


def sqnr_db(expected: Outputs, given: Outputs) -> float:
    """Power of the signal over power of the difference, in dB; the mean over the outputs.

    Each output has its own ratio, so that one with large numbers does not hide the others.  Those
    that are `incomparable` are left out; NaN if all are.
    """
    unlike, ratios = incomparable(expected, given), list[float]()
    for name in _names(expected):
        if name in unlike:
            continue
        pairs = [powers(a[name], b[name]) for a, b in zip(expected, given, strict=True)]
        ratios.append(decibels(sum(one for one, _ in pairs), sum(two for _, two in pairs)))
    if not ratios:
        return math.nan if unlike else EXACT
    return float(np.mean(ratios))


def incomparable(expected: Outputs, given: Outputs) -> list[str]:
    """The outputs that have another shape for some sample: how many rows they have depends on the
    numbers, as behind a threshold or NonMaxSuppression."""
    return [
        name
        for name in _names(expected)
        if any(a[name].shape != b[name].shape for a, b in zip(expected, given, strict=True))
    ]


def decibels(signal: float, noise: float) -> float:
    """Signal over noise, within plus and minus `EXACT`."""
    return max(-EXACT, min(EXACT, decibel(signal, noise)))


def _names(outputs: Outputs) -> list[str]:
    return list(outputs[0]) if outputs else []


def _is_float(answer: object) -> bool:
    """Sequences and maps compare with nothing."""
    return isinstance(answer, np.ndarray) and answer.dtype.kind == "f"
