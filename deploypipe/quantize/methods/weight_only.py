"""Weight-only int8: a quarter of the bytes, no samples."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from deploypipe.quantize.folded import store_int8
from deploypipe.quantize.job import Job
from deploypipe.quantize.linears import linears_of
from deploypipe.quantize.method import Method, finished
from deploypipe.quantize.nbits import BLOCK, in_blocks
from deploypipe.quantize.opset import modern
from deploypipe.quantize.plan import checked_constant
from deploypipe.quantize.quantized import Quantized
from deploypipe.quantize.rewriting import Rewriter
from deploypipe.quantize.weights import weights_of

SMALLEST = 256
"""A weight of fewer numbers would not make the file smaller."""
_TOO_SMALL = "its weight is too small to gain bytes"


@dataclass(frozen=True)
class WeightOnly(Method):
    """int8 weights, float activations, no samples: a quarter of the bytes.

    Gemm and MatMul become MatMulNBits with a scale for every ``block`` inputs, and with
    ``zero_points`` a zero point too: faster for a few rows, not for many.  The weights of other
    nodes, with ``convolutions``, are float again once the model is loaded.
    """

    block: int = BLOCK
    zero_points: bool = False
    convolutions: bool = True
    embeddings: bool = True

    def __post_init__(self) -> None:
        if self.block not in (16, 32, 64, 128, 256):
            raise ValueError(f"block must be 16, 32, 64, 128 or 256, got {self.block}")

    def quantize(self, model: ir.Model, job: Job) -> Quantized:
        model, converted = modern(model, 7, "stored weights")
        found, weights = linears_of(model), weights_of(model)
        known = [*(unit.name for unit in found.units), *(one.name for one in weights)]
        job.check_names(known)
        reasons = {**found.kept_float, **job.keep_float}
        reasons |= {one.name: _TOO_SMALL for one in weights if one.size < SMALLEST}
        sizes = {one.value: one.size for one in weights}
        rewriter, made, stored = Rewriter(model), 0, 0
        for unit in found.units:
            if unit.name not in reasons and sizes.get(str(unit.weight), 0) >= SMALLEST:
                in_blocks(rewriter, unit, self.block, self.zero_points)
                made += 1
        for one in weights:
            if self.convolutions and "Conv" in one.op and one.name not in reasons:
                value = rewriter.constants[one.value]
                array = checked_constant(rewriter.constants, one.value, one.op, one.name)
                store_int8(rewriter, value, array, one.axis)
                stored += 1
        told = []
        if made:
            told.append(f"{made} Gemm and MatMul with int8 weights, a scale every {self.block}")
        if stored:
            told.append(f"{stored} Conv weights in int8, float32 again when the model is loaded")
        return finished(model, rewriter, converted, told, reasons, self.embeddings)
