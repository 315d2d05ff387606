"""NVIDIA GPUs, through engines that TensorRT builds for them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from typing import ClassVar

from deploypipe.runtime.onnx_runtime import loads
from deploypipe.runtime.targets.cuda import Cuda

LIBRARY = "nvinfer_10.dll" if sys.platform == "win32" else "libnvinfer.so.10"


@dataclass(frozen=True)
class Tensorrt(Cuda):
    """TensorRT on an NVIDIA GPU; what it cannot build runs on CUDA.  Opening builds the engine."""

    half: bool = False
    """Let the engine compute in float16 where it is faster."""

    provider: ClassVar[str] = "TensorrtExecutionProvider"
    channel_block: ClassVar[int] = 8

    def providers(self) -> list[tuple[str, dict[str, str]]]:
        mine = {"device_id": str(self.device), "trt_fp16_enable": str(self.half)}
        return [(self.provider, mine), (Cuda.provider, {"device_id": str(self.device)})]

    def missing(self) -> str | None:
        reason = super().missing()
        if reason is None and not _has_package() and not loads(LIBRARY):
            return f"TensorRT is not installed ({LIBRARY} does not load): pip install tensorrt-cu12"
        return reason

    def load_libraries(self) -> None:
        super().load_libraries()
        if _has_package():
            importlib.import_module("tensorrt_libs")  # its import loads them


def _has_package() -> bool:
    return importlib.util.find_spec("tensorrt_libs") is not None
