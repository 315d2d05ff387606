"""TensorRT's explicit quantization; from NVIDIA's documents, not measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from deploypipe.quantize.profile import Kind, Profile

_FUSED = "it fuses into the kernel before it, which computes in float"


@dataclass(frozen=True)
class Tensorrt(Profile):
    """Symmetric int8 at the inputs of convolutions and linear layers, and nothing behind them.

    A kernel gives floats, so that what follows fuses into its end: of a residual sum only the other
    branch is 8-bit.  Biases stay float.  A file for TensorRT is slow on a processor, and the other
    way round.
    """

    kinds: ClassVar[Mapping[str, Kind]] = {
        "Conv": Kind.CONV,
        "Gemm": Kind.LINEAR,
        "MatMul": Kind.LINEAR,
        "Add": Kind.RESIDUAL,
        "MaxPool": Kind.MOVE,
    }
    folds: ClassVar[frozenset[str]] = frozenset({"Relu", "Clip"})
    reasons: ClassVar[Mapping[str, str]] = {
        "Relu": _FUSED,
        "Clip": _FUSED,
        "Sigmoid": _FUSED,
        "Mul": "8 bits around it gain nothing there",
        "Softmax": "8 bits are too few for probabilities below 1/255",
        "Concat": "all its inputs would need one scale",
    }
    signed: ClassVar[bool] = True
    symmetric: ClassVar[bool] = True
    int32_bias: ClassVar[bool] = False
    float_outputs: ClassVar[frozenset[Kind]] = frozenset({Kind.CONV, Kind.LINEAR, Kind.RESIDUAL})
    provider: ClassVar[str] = "TensorrtExecutionProvider"
