"""How many samples a model is fed at once, where it was exported for a number of them."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from deploypipe.core.errors import UserError
from deploypipe.core.tensors import fixed_batch
from deploypipe.data import Split
from deploypipe.graph.files import read_graph
from deploypipe.graph.interface import inputs_of


def batch_of(model: Path, split: Split, limit: int | None = None) -> int | None:
    """The batch size that an ONNX file is fixed at; None where any will do.

    Raises:
        UserError: ``limit``, or the whole split, is less than one batch.
    """
    fixed = fixed_batch(inputs_of(ir.from_proto(read_graph(model))))
    there = len(split) if limit is None else limit
    if fixed is not None and fixed > there:
        raise UserError(
            f"the model takes {fixed} samples at once, and there are {there} for {split.name}",
            where=f"data.split.{split.name}",
            then="Give more of them, or export the model with a dynamic batch",
        )
    return fixed
