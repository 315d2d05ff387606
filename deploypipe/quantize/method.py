"""The ways to quantize: what is stored and computed in how many bits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import onnx_ir as ir

from deploypipe.core.errors import UserError
from deploypipe.core.shelf import Shelf
from deploypipe.quantize.embeddings import store_tables
from deploypipe.quantize.job import Job
from deploypipe.quantize.quantized import Quantized, why_float
from deploypipe.quantize.rewriting import Rewriter


class Method(ABC):
    """One way to quantize.  Options are the constructor's parameters."""

    needs_samples: ClassVar[bool] = False

    @abstractmethod
    def quantize(self, model: ir.Model, job: Job) -> Quantized:
        """A quantized copy; ``model`` stays as it is.

        Raises:
            UserError: the model does not allow it, or nothing of it can be quantized.
        """


METHODS: Shelf[Method] = Shelf("method", "deploypipe.quantize.methods", Method)


def finished(
    model: ir.Model,
    rewriter: Rewriter,
    converted: Sequence[str],
    made: Sequence[str],
    reasons: Mapping[str, str],
    embeddings: bool,
) -> Quantized:
    """What a method without samples hands out: ``made`` are its changes, ``reasons`` its refusals.

    With ``embeddings``, large tables become int8 too.

    Raises:
        UserError: nothing was changed.
    """
    result, tables = rewriter.finish(), list[str]()
    if embeddings:
        result, tables = store_tables(result)
    check_worth([*made, *tables], reasons)
    return Quantized(result, True, [*converted, *made, *tables], why_float(model, reasons), [])


def check_worth(changes: Sequence[str], reasons: Mapping[str, str]) -> None:
    """Raise a user's error if nothing was changed."""
    if not changes:
        first = "; ".join(f"'{name}': {why}" for name, why in list(reasons.items())[:3])
        raise UserError(
            "no weight can be stored in fewer bits",
            then=f"Why: {first}" if first else "It has no large constant weights",
        )
