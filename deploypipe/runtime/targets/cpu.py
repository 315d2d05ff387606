"""The processor, through ONNX Runtime's own kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from deploypipe.runtime.onnx_runtime import OnnxRuntimeTarget


@dataclass(frozen=True)
class Cpu(OnnxRuntimeTarget):
    """The processor, with ``threads`` threads for one operator."""

    provider: ClassVar[str] = "CPUExecutionProvider"
    install: ClassVar[str] = "pip install onnxruntime"
    channel_block: ClassVar[int] = 4
    """ONNX Runtime's blocked convolution takes input channels in multiples of four."""
    forkable: ClassVar[bool] = True

    @property
    def most_streams(self) -> int:
        return self.threads

    def divided(self, streams: int) -> Cpu:
        return replace(self, threads=max(1, self.threads // streams))

    def providers(self) -> list[tuple[str, dict[str, str]]]:
        return [(self.provider, {})]
