"""Binary weights: a sign a weight and a scale a channel."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from deploypipe.quantize.folded import store_signs
from deploypipe.quantize.job import Job
from deploypipe.quantize.method import Method, finished
from deploypipe.quantize.opset import modern
from deploypipe.quantize.plan import checked_constant
from deploypipe.quantize.quantized import Quantized
from deploypipe.quantize.rewriting import Rewriter
from deploypipe.quantize.weights import weights_of

SMALLEST = 512
"""A weight of fewer numbers would not make the file smaller."""


@dataclass(frozen=True)
class Binary(Method):
    """One bit a weight, packed, and a scale a channel, float activations, no samples.

    A thirtieth of the bytes, computed in float32 as before.  Unless ``ends``, the first and the last
    weight stay float (Rastegari et al., 2016, arXiv:1603.05279); with ``embeddings``, large tables
    are int8.  A model that was not trained for it loses most of what it knows.
    """

    ends: bool = False
    embeddings: bool = True

    def quantize(self, model: ir.Model, job: Job) -> Quantized:
        model, converted = modern(model, 11, "packed bits")
        weights = weights_of(model)
        job.check_names([one.name for one in weights])
        reasons = {} if self.ends else {w.name: _END for w in (*weights[:1], *weights[-1:])}
        reasons |= {one.name: _SMALL for one in weights if one.size < SMALLEST}
        reasons |= job.keep_float
        rewriter = Rewriter(model)
        wanted = [one for one in weights if one.name not in reasons]
        for one in wanted:
            array = checked_constant(rewriter.constants, one.value, one.op, one.name)
            store_signs(rewriter, rewriter.constants[one.value], array, one.axis)
        told = [f"{len(wanted)} weights are signs, with a scale a channel"] if wanted else []
        return finished(model, rewriter, converted, told, reasons, self.embeddings)


_END = "it is the first or the last weight, which one bit harms most"
_SMALL = "its weight is too small to gain bytes"
