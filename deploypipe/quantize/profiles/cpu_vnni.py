"""ONNX Runtime's CPU kernels on x86-64 with VNNI, as measured with version 1.31."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from deploypipe.quantize.profile import Kind, Profile

_NORM = "normalisation is computed in float; there is no 8-bit kernel"


@dataclass(frozen=True)
class CpuVnni(Profile):
    """Asymmetric uint8 activations, symmetric int8 weights per channel.

    uint8, not int8: on x86-64 ONNX Runtime fuses nothing around an int8 tensor with two readers.
    """

    machines: ClassVar[frozenset[str]] = frozenset({"x86_64", "amd64"})
    flags: ClassVar[frozenset[str]] = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})

    kinds: ClassVar[Mapping[str, Kind]] = {
        "Conv": Kind.CONV,
        "Gemm": Kind.LINEAR,
        "MatMul": Kind.LINEAR,
        "Add": Kind.BINARY,
        "Mul": Kind.BINARY,
        "Sigmoid": Kind.UNARY,
        "LeakyRelu": Kind.UNARY,
        "GlobalAveragePool": Kind.UNARY,
        "AveragePool": Kind.UNARY,
        "Concat": Kind.CONCAT,
        "MaxPool": Kind.MOVE,
        "Reshape": Kind.MOVE,
        "Flatten": Kind.MOVE,
        "Transpose": Kind.MOVE,
        "Squeeze": Kind.MOVE,
        "Unsqueeze": Kind.MOVE,
        "Slice": Kind.MOVE,
    }
    folds: ClassVar[frozenset[str]] = frozenset({"Relu", "Clip"})
    reasons: ClassVar[Mapping[str, str]] = {
        "BatchNormalization": "it never fuses; fold it into the Conv before it first",
        "ConvTranspose": "it has no 8-bit kernel",
        "Softmax": "8 bits are too few for probabilities below 1/255",
        "Gelu": "it has no 8-bit kernel",
        "LayerNormalization": _NORM,
        "GroupNormalization": _NORM,
        "InstanceNormalization": _NORM,
        "HardSwish": "it has no 8-bit kernel",
        "HardSigmoid": "it has no 8-bit kernel",
        "ReduceMean": "it has no 8-bit kernel; over height and width, GlobalAveragePool has one",
        "Pad": "it has no 8-bit kernel; fold it into the Conv after it first",
        "Relu": "no 8-bit Conv, Gemm, MatMul or Add that it could fold into is right before it",
        "Clip": "only a Clip from 0 right after a Conv, Gemm, MatMul or Add folds",
    }
