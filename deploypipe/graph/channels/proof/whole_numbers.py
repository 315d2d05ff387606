"""The removal is tested without rounding: a twin in whole numbers must answer bit for bit.

Whole numbers below 2^53 are exact in float64, so the order of a sum does not matter, and the only
way to another answer is a wrong index or a wrong number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph.channels.proof.evaluate import evaluate64
from deploypipe.graph.channels.proof.finding import Finding, not_applicable
from deploypipe.graph.channels.proof.real_weights import largest_error
from deploypipe.graph.channels.proof.reference import CannotEvaluate
from deploypipe.graph.channels.proof.twin import NoTwin, integer_twin, whole_feeds
from deploypipe.graph.files import weight_bytes

Array = npt.NDArray[Any]
Cut = Callable[[ir.Model], object]
"""Removes channels from a model, in place: the engine under test."""

NAME = "whole numbers, bit for bit"
_SUMS = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "Einsum",
        "Gemm",
        "MatMul",
        "ReduceL1",
        "ReduceMean",
        "ReduceSum",
        "ReduceSumSquare",
    }
)
"""Ops that add along an axis that may lose cells; all others treat a cell the same on its own."""
_FINEST = 12
"""Halves of halves: numbers are multiples of 2^-12 at the finest."""
_CHUNK = 1 << 20


class _Rounds(Exception):  # noqa: N818
    """A sum whose order could matter; the message says which."""


def whole_numbers(model: ir.Model, cut: Cut, feeds: Mapping[str, Array], seed: int = 0) -> Finding:
    """Whether ``cut`` leaves the outputs of ``model``'s twin as they are, to the last bit.

    ``feeds`` give the shapes of the inputs; floats among them are drawn anew.  Not applicable where
    a sum is not exact, which is measured, or where nothing is cut from the twin.
    """
    try:
        twin = integer_twin(model, seed)
        drawn = whole_feeds(dict(feeds), seed)
        expected = evaluate64(twin, drawn, _check_exact)
        size = weight_bytes(twin)
        cut(twin)
        if weight_bytes(twin) == size:
            return not_applicable(NAME, 0.0, "nothing was cut from the twin")
        given = evaluate64(twin, drawn, _check_exact)
    except (CannotEvaluate, NoTwin, _Rounds) as error:
        return not_applicable(NAME, 0.0, str(error))
    if not all(np.isfinite(array).all() for array in expected.values()):
        return not_applicable(NAME, 0.0, "the twin's outputs are not finite")
    moved = largest_error(expected, given)
    what = "the outputs are equal" if moved == 0.0 else f"the outputs differ by {moved:.1e}"
    return Finding(NAME, moved, 0.0, moved == 0.0, what)


def _check_exact(node: ir.Node, inputs: Sequence[Any], _outputs: Sequence[Any]) -> None:
    """Raise where a sum could round: numbers too fine, or sums that could pass 2^53."""
    if node.op_type not in _SUMS:
        return
    arrays = [array for array in inputs if isinstance(array, np.ndarray) and _is_number(array)]
    grains = [_grain(array) for array in arrays]
    if any(grain is None for grain in grains):
        raise _Rounds(f"{node.op_type} '{node.name}' reads numbers that are not whole")
    known = [grain for grain in grains if grain is not None]
    # The bias, if any, is one more term of the sum, hence the one.
    terms = max((array.size for array in arrays), default=0) + 1
    largest = float(np.prod([max(size, 1.0) for size, _ in known])) * terms
    if largest * 2.0 ** sum(bits for _, bits in known) >= 2.0**53:
        raise _Rounds(f"{node.op_type} '{node.name}' may pass 2^53")


def _grain(array: Array) -> tuple[float, int] | None:
    """The largest magnitude, and b so that all are multiples of 2^-b; None if none up to 12 does."""
    largest, bits = 0.0, 0
    for chunk in _chunks(array):
        largest = max(largest, float(np.abs(chunk).max(initial=0.0)))
        while bits <= _FINEST and not _whole(chunk * 2.0**bits):
            bits += 1
        if bits > _FINEST:
            return None
    return largest, bits


def _whole(array: Array) -> bool:
    return bool((np.floor(array) == array).all()) and bool(np.isfinite(array).all())


def _chunks(array: Array) -> Iterator[Array]:
    """The array as float64, a part at a time."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        yield flat[start : start + _CHUNK].astype(np.float64)


def _is_number(array: Array) -> bool:
    return ir.DataType.from_numpy(array.dtype).is_floating_point()
