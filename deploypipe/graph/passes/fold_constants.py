"""Compute once what does not depend on the input."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass
from onnxscript.optimizer import fold_constants

from deploypipe.graph import GraphPass, Outcome


@dataclass(frozen=True)
class FoldConstants(GraphPass):
    """Replace nodes whose inputs are constant by their result, and Constant nodes by initializers.

    ::

        Expand(CastLike(0, x), Shape(W)) -> b        becomes        b: an initializer

    The result keeps the name of the value it replaces.  QuantizeLinear and DequantizeLinear stay:
    folding them would turn integer weights back into floats.  A result of more than ``limit``
    elements is folded only if the model does not grow by it.
    """

    limit: int = 65536

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise ValueError(f"limit must be at least 0, got {self.limit}")

    def call(self, model: ir.Model) -> Outcome:
        before = _ops(model)
        refusals = []
        limits = {"input_size_limit": 2**31, "output_size_limit": self.limit}
        try:
            with _quiet("onnxscript.optimizer._constant_folding"):
                fold_constants(model, onnx_shape_inference=True, **limits)
        except RuntimeError as error:  # one op's evaluator failed; what was folded so far is valid
            refusals.append(f"folding stopped: {str(error).splitlines()[0]}")
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        gone = before - _ops(model)
        refusals += list(_left(model, self.limit))
        return Outcome(model, bool(gone), [_told(gone)] if gone else [], refusals)


def _ops(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.all_nodes())


def _told(gone: Counter[str]) -> str:
    kinds = ", ".join(f"{count} {op}" for op, count in sorted(gone.items()))
    return f"folded {gone.total()} nodes: {kinds}"


def _left(model: ir.Model, limit: int) -> Iterator[str]:
    """Why nodes with constant inputs alone are still there."""
    for node in model.graph:
        inputs = [value for value in node.inputs if value is not None]
        constant = bool(inputs) and all(
            v.is_initializer() and not v.is_graph_input() for v in inputs
        )
        if constant and node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            yield (
                f"kept {node.op_type} '{node.name}': constant, but it has several results, is "
                f"random, or the model would grow by more than {limit} elements"
            )


@contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """The folder warns about every multi-output op; our refusals say it."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
