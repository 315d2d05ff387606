"""ONNX Runtime's CPU kernels on 64-bit ARM; from its source, not measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deploypipe.quantize.profiles.cpu_vnni import CpuVnni


@dataclass(frozen=True)
class Arm64(CpuVnni):
    """Asymmetric int8 activations: its dot products take two signed operands."""

    machines: ClassVar[frozenset[str]] = frozenset({"aarch64", "arm64"})
    flags: ClassVar[frozenset[str]] = frozenset()
    signed: ClassVar[bool] = True
