"""16-bit weights: half the bytes, computed in float32 as before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph.constants import constant_of, is_constant
from deploypipe.quantize.folded import store_cast
from deploypipe.quantize.job import Job
from deploypipe.quantize.method import Method, check_worth
from deploypipe.quantize.opset import modern
from deploypipe.quantize.plan import checked_constant
from deploypipe.quantize.quantized import Quantized
from deploypipe.quantize.rewriting import Rewriter
from deploypipe.quantize.units import check_model, name_of
from deploypipe.quantize.weights import WEIGHTED

SMALLEST = 64
"""A constant of fewer numbers would not pay for its Cast."""
_DTYPES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


@dataclass(frozen=True)
class Half(Method):
    """16-bit weights that are float32 again once the model is loaded: half the bytes, no samples.

    float16 keeps 11 bits of every number, bfloat16 8 bits and float32's range; a constant with
    numbers that it cannot hold stays float32.  A mask's infinities are as infinite in 16 bits.
    """

    dtype: str = "float16"

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES:
            raise ValueError(f"dtype must be float16 or bfloat16, got {self.dtype}")

    def quantize(self, model: ir.Model, job: Job) -> Quantized:
        check_model(model)
        model, changes = modern(model, 9 if self.dtype == "float16" else 13, "16-bit weights")
        rewriter = Rewriter(model)
        values = dict(_constants(rewriter))
        job.check_names(values)
        reasons, made, dtype = dict(job.keep_float), 0, _DTYPES[self.dtype]
        for name, value in values.items():
            if name in reasons:
                continue
            array = _checked(rewriter, name, value)
            with np.errstate(over="ignore"):
                stored = array.astype(dtype)
            if not np.isfinite(stored[np.isfinite(array)]).all():
                reasons[name] = f"it has numbers beyond what {self.dtype} holds"
                continue
            store_cast(rewriter, value, stored)
            made += 1
        if made:
            changes.append(f"{made} constants in {self.dtype}, float32 again when loaded")
        check_worth(changes if made else [], reasons)
        refusals = [f"'{name}' stays float32: {why}" for name, why in reasons.items()]
        return Quantized(rewriter.finish(), True, changes, refusals, [])


def _checked(rewriter: Rewriter, name: str, value: ir.Value) -> npt.NDArray[np.float32]:
    """The constant's array; where a node with weights reads it, everything in it must be finite."""
    reader = next((use.node for use in value.uses() if use.node.op_type in WEIGHTED), None)
    if reader is None:
        array = constant_of(value)
        assert array is not None
        return array
    return checked_constant(rewriter.constants, name, reader.op_type, name_of(reader))


def _constants(rewriter: Rewriter) -> Iterator[tuple[str, ir.Value]]:
    """Large float32 constants of the main graph that somebody reads and that are no output."""
    for name, value in rewriter.constants.items():
        if value.is_graph_output() or not value.uses() or not is_constant(value):
            continue
        array = constant_of(value)
        if array is not None and array.dtype == "float32" and array.size >= SMALLEST:
            yield str(name), value
