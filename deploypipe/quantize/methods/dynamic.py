"""Dynamic int8: activations are rounded by their own extremes, no samples."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from deploypipe.quantize.dynamic import dynamically
from deploypipe.quantize.job import Job
from deploypipe.quantize.linears import linears_of
from deploypipe.quantize.method import Method, finished
from deploypipe.quantize.opset import modern
from deploypipe.quantize.quantized import Quantized
from deploypipe.quantize.rewriting import Rewriter

_CONV = "the runtime's ConvInteger is slower than its float Conv"


@dataclass(frozen=True)
class Dynamic(Method):
    """int8 weights, activations rounded to 8 bits as they come: no samples; Gemm and MatMul only.

    A convolution stays float: ONNX Runtime has no fast kernel for one with dynamic scales.
    """

    embeddings: bool = True

    def quantize(self, model: ir.Model, job: Job) -> Quantized:
        model, converted = modern(model, 11, "dynamic scales")
        found = linears_of(model)
        job.check_names([unit.name for unit in found.units])
        convs = {
            node.name or str(node.outputs[0].name): _CONV
            for node in model.graph
            if node.op_type == "Conv"
        }
        reasons = {**found.kept_float, **convs, **job.keep_float}
        rewriter, profile, made = Rewriter(model), job.profile.resolve(), 0
        for unit in found.units:
            if unit.name not in reasons:
                dynamically(rewriter, unit, profile)
                made += 1
        told = [f"{made} Gemm and MatMul with int8 weights and dynamic activations"] if made else []
        return finished(model, rewriter, converted, told, reasons, self.embeddings)
