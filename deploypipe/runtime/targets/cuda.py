"""NVIDIA GPUs, through ONNX Runtime's CUDA kernels."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from typing import ClassVar

from deploypipe.runtime.onnx_runtime import OnnxRuntimeTarget, loads

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


@dataclass(frozen=True)
class Cuda(OnnxRuntimeTarget):
    """An NVIDIA GPU; what its kernels lack runs on the processor and shows in the placement."""

    device: int = 0

    provider: ClassVar[str] = "CUDAExecutionProvider"
    channel_block: ClassVar[int] = 8
    install: ClassVar[str] = "pip install 'deploypipe[gpu]' in an environment without 'onnxruntime'"

    def providers(self) -> list[tuple[str, dict[str, str]]]:
        return [(self.provider, {"device_id": str(self.device)})]

    def missing(self) -> str | None:
        reason = super().missing()
        if reason is None and not loads(DRIVER):
            return f"there is no NVIDIA driver here ({DRIVER} does not load): install the driver"
        return reason

    def load_libraries(self) -> None:
        import onnxruntime

        # It finds the CUDA and cuDNN of pip's nvidia-* packages, and prints what it does not find.
        with contextlib.redirect_stdout(sys.stderr):
            onnxruntime.preload_dlls()
