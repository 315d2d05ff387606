"""ONNX Runtime's CPU kernels on x86-64 without VNNI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deploypipe.quantize.profiles.cpu_vnni import CpuVnni


@dataclass(frozen=True)
class CpuAvx2(CpuVnni):
    """What fuses is the same, but kernels add two products in 16 bits, and saturate.

    255 * (|w_k| + |w_k+1|) stays below 2^15 where neighbouring weights add up to 128 at most.
    """

    flags: ClassVar[frozenset[str]] = frozenset({"avx2", "avx512f"})
    without: ClassVar[frozenset[str]] = CpuVnni.flags
    pair_limit: ClassVar[int | None] = 128
