"""All that is tested on every removal, before anybody sees the result.

The engine runs three times: on the model, on the model in float64 and on its twin in whole numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from deploypipe.core.errors import UserError
from deploypipe.graph.channels.proof.evaluate import evaluate64
from deploypipe.graph.channels.proof.finding import Finding, not_applicable
from deploypipe.graph.channels.proof.real_weights import LIMIT, NAME, real_weights
from deploypipe.graph.channels.proof.reference import CannotEvaluate
from deploypipe.graph.channels.proof.whole_numbers import Cut, whole_numbers
from deploypipe.graph.channels.proof.wide import wide_model
from deploypipe.graph.check import random_feeds
from deploypipe.graph.files import weight_bytes

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]

LARGE = 200_000_000
"""Bytes of weights above which no second and third model is made for the proof."""
STORED = 2e-6
"""What the weights' own rounding may do where they were merged in float32."""

_SIZES = ((33, 47), (64, 64), (97, 95), (224, 224))


def prove(before: ir.Model, after: ir.Model, cut: Cut) -> list[Finding]:
    """What the tests say of ``after``; ``cut`` is the engine, run on further models in place."""
    found: list[Finding] = []
    sizes = 0
    for feeds in _feeds(before):
        try:
            finding = _real(before, after, cut, feeds)
        except _Unfit:
            continue
        found.append(finding)
        sizes += 1
        if sizes == 1 and weight_bytes(before) <= LARGE:
            found.append(whole_numbers(before, cut, feeds))
        if sizes == 2:
            break
    return found or [not_applicable(NAME, LIMIT, "no input fits the model")]


class _Unfit(Exception):  # noqa: N818
    """The model itself cannot take these sizes."""


def _real(before: ir.Model, after: ir.Model, cut: Cut, feeds: Feeds) -> Finding:
    """In float64 throughout, or, of a large model, with the weights as they were stored."""
    try:
        expected = evaluate64(before, feeds)
    except CannotEvaluate as error:
        return not_applicable(NAME, LIMIT, str(error))
    except (ValueError, IndexError, RuntimeError) as error:
        raise _Unfit from error
    if weight_bytes(before) <= LARGE:
        thin = wide_model(before)
        cut(thin)
        if _weights(thin) == _weights(after):
            return real_weights(expected, thin, feeds)
    return real_weights(expected, after, feeds, STORED)


def _weights(model: ir.Model) -> int:
    """How many numbers the weights are."""
    tensors = [value.const_value for value in model.graph.initializers.values()]
    return sum(tensor.size for tensor in tensors if tensor is not None)


def _feeds(model: ir.Model) -> Iterator[Feeds]:
    """Inputs of several sizes, odd ones among them, as far as the model's are not fixed."""
    symbols = _symbols(model)
    for number, (height, width) in enumerate(_SIZES if symbols else _SIZES[:1]):
        sizes = {name: (height, width)[place % 2] for place, name in enumerate(symbols)}
        try:
            yield random_feeds(model, seed=number, batch=1 + number % 2, sizes=sizes)
        except UserError:
            return  # an input without a rank, or of strings


def _symbols(model: ir.Model) -> list[str]:
    """Dynamic dimensions other than the batch."""
    dims = [
        dim
        for value in model.graph.inputs
        if value.shape is not None
        for dim in list(value.shape)[1:]
    ]
    return list(dict.fromkeys(d.value for d in dims if isinstance(d, ir.SymbolicDim) and d.value))
