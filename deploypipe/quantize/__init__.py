"""ONNX + samples -> int8 QDQ ONNX: observe -> plan -> emit -> audit -> decide -> correct.

A new calibrator is one file in ``calibrators/``, a new target's table of what fuses one file in
``profiles/``, a new correction one file in ``corrections/``, a new
method (weight-only, 16-bit ...) one file in ``methods/``.
"""

from __future__ import annotations

from deploypipe.quantize.audit import Audit
from deploypipe.quantize.calibrator import CALIBRATORS, Calibrator
from deploypipe.quantize.correction import CORRECTIONS, Correction
from deploypipe.quantize.decide import Race
from deploypipe.quantize.histogram import Histogram, Range
from deploypipe.quantize.job import Job
from deploypipe.quantize.method import METHODS, Method
from deploypipe.quantize.params import QParams, WeightParams
from deploypipe.quantize.plan import QuantPlan
from deploypipe.quantize.profile import PROFILES, Kind, Profile
from deploypipe.quantize.quantized import Quantized
from deploypipe.quantize.story import quantize_model
from deploypipe.quantize.units import Unit

__all__ = [
    "CALIBRATORS",
    "CORRECTIONS",
    "METHODS",
    "PROFILES",
    "Audit",
    "Calibrator",
    "Correction",
    "Histogram",
    "Job",
    "Kind",
    "Method",
    "Profile",
    "QParams",
    "QuantPlan",
    "Quantized",
    "Race",
    "Range",
    "Unit",
    "WeightParams",
    "quantize_model",
]
