"""Static int8: weights and activations, with scales from calibration samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from deploypipe.quantize.embeddings import store_tables
from deploypipe.quantize.method import Job, Method
from deploypipe.quantize.story import Quantized, quantize_model


@dataclass(frozen=True)
class Static(Method):
    """int8 weights and activations with scales from samples (QDQ), where that is faster here.

    With ``embeddings``, large embedding tables are stored as int8 with a scale a row.
    """

    embeddings: bool = True

    needs_samples: ClassVar[bool] = True

    def quantize(self, model: ir.Model, job: Job) -> Quantized:
        done = quantize_model(
            model,
            job.feeds,
            job.target,
            calibrator=job.calibrator,
            profile=job.profile,
            progress=job.progress,
            keep_float=job.keep_float,
            samples=job.samples,
            race=job.race,
            corrections=job.corrections,
            least_sqnr=job.least_sqnr,
            diagnosis=job.diagnosis,
            memory=job.memory,
        )
        if self.embeddings and done.modified:
            done.model, changes = store_tables(done.model)
            done.changes += changes
        return done
