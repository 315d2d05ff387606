"""The removal is tested in float64 on the weights as they are.

Sums of another order differ there by some 1e-15 of the largest number; a wrong channel differs by
as much as it carries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph.channels.proof.evaluate import evaluate64
from deploypipe.graph.channels.proof.finding import Finding, judged, not_applicable
from deploypipe.graph.channels.proof.reference import CannotEvaluate
from deploypipe.graph.check import relative_error

Array = npt.NDArray[Any]

NAME = "real weights in float64"
LIMIT = 1e-10


def real_weights(
    expected: Mapping[str, Array],
    after: ir.Model,
    feeds: Mapping[str, Array],
    limit: float = LIMIT,
) -> Finding:
    """Whether every output of ``after`` is as ``expected``, in float64, to ``limit``.

    ``expected`` is :func:`evaluate64` of the model before.  Not applicable where an op cannot be
    run in float64 or an output is not finite.
    """
    try:
        given = evaluate64(after, feeds)
    except CannotEvaluate as error:
        return not_applicable(NAME, limit, str(error))
    if not all(np.isfinite(array).all() for array in expected.values() if array.dtype.kind == "f"):
        return not_applicable(NAME, limit, "the outputs are not finite")
    return judged(NAME, largest_error(expected, given), limit, "largest relative error")


def largest_error(expected: Mapping[str, Array], given: Mapping[str, Array]) -> float:
    """The largest relative error of any output; ``inf`` where outputs or shapes differ."""
    if set(expected) != set(given):
        return float("inf")
    return max((relative_error(expected[name], given[name]) for name in expected), default=0.0)
