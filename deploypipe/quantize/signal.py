"""How near a quantized model's outputs are to the float model's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.core.decibel import decibel
from deploypipe.graph.parts import parts_of
from deploypipe.quantize.lookout import Arrays
from deploypipe.runtime import Target

EXACT = 300.0
"""dB where nothing was lost."""

Outputs = Sequence[Sequence[npt.NDArray[Any]]]
"""For every sample the model's outputs."""


def outputs_of(
    models: Sequence[ir.Model], samples: Sequence[Arrays], target: Target
) -> list[Outputs]:
    """The float outputs of every model."""
    found: list[Outputs] = []
    for model in models:
        with target.open(parts_of(model)) as session:
            answers = [session(sample).values() for sample in samples]
        found.append([[a for a in one if a.dtype.kind == "f"] for one in answers])
    return found


def sqnr_db(expected: Outputs, given: Outputs) -> float:
    """Power of the signal over power of the difference, in dB; the mean over the outputs.

    Each output has its own ratio, so that one with large numbers does not hide the others.
    """
    ratios = []
    for a, b in zip(zip(*expected, strict=True), zip(*given, strict=True), strict=True):
        signal = sum(float(np.sum(np.square(x, dtype=np.float64))) for x in a)
        noise = sum(
            float(np.sum(np.square(np.subtract(x, y, dtype=np.float64))))
            for x, y in zip(a, b, strict=True)
        )
        ratios.append(decibels(signal, noise))
    return float(np.mean(ratios)) if ratios else EXACT


def decibels(signal: float, noise: float) -> float:
    """Signal over noise, within plus and minus `EXACT`."""
    return max(-EXACT, min(EXACT, decibel(signal, noise)))
