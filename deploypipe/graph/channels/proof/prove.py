"""All that is tested on every removal, before anybody sees the result.

The engine runs three times: on the model, on the model in float64 and on its twin in whole numbers.
"""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from deploypipe.graph.channels.proof.evaluate import evaluate64
from deploypipe.graph.channels.proof.finding import Finding, not_applicable, shapes_of
from deploypipe.graph.channels.proof.real_weights import LIMIT, NAME, real_weights
from deploypipe.graph.channels.proof.reference import CannotEvaluate
from deploypipe.graph.channels.proof.sizes import Feeds, open_feeds
from deploypipe.graph.channels.proof.whole_numbers import Cut, whole_numbers
from deploypipe.graph.channels.proof.wide import wide_model
from deploypipe.graph.files import weight_bytes

LARGE = 200_000_000
"""Bytes of weights above which no second and third model is made for the proof."""
STORED = 2e-6
"""What the weights' own rounding may do where they were merged in float32."""


def prove(before: ir.Model, after: ir.Model, cut: Cut) -> list[Finding]:
    """What the tests say of ``after``; ``cut`` is the engine, run on further models in place."""
    found: list[Finding] = []
    sizes = 0
    for feeds in open_feeds(before):
        try:
            finding = _real(before, after, cut, feeds)
        except _Unfit:
            continue
        found.append(replace(finding, shapes=shapes_of(feeds)))
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
