"""Static int8: weights and activations, with scales from calibration samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from deploypipe.quantize.job import Job
from deploypipe.quantize.method import Method
from deploypipe.quantize.quantized import Quantized
from deploypipe.quantize.story import quantize_model


@dataclass(frozen=True)
class Static(Method):
    """int8 weights and activations with scales from samples (QDQ), where that is faster here.

    With ``embeddings``, large embedding tables are stored as int8 with a scale a row.
    """

    embeddings: bool = True

    needs_samples: ClassVar[bool] = True

    def quantize(self, model: ir.Model, job: Job) -> Quantized:
        return quantize_model(model, job, self.embeddings)
