"""What the targets that run in ONNX Runtime share: threads, and what to install."""

from __future__ import annotations

import ctypes
import importlib.util
from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from deploypipe.core.errors import EnvironmentLacks
from deploypipe.core.model_parts import ModelParts
from deploypipe.runtime import Session, Target
from deploypipe.runtime.host import package_version, usable_cores

BUILDS = ("onnxruntime", "onnxruntime-gpu")
"""Packages that bring the same module ``onnxruntime``; only one may be installed."""


def default_threads() -> int:
    """Physical cores that this process may use, at most 8: more seldom help one request."""
    return min(usable_cores(), 8)


@dataclass(frozen=True)
class OnnxRuntimeTarget(Target):
    """A target that is an execution provider of ONNX Runtime."""

    threads: int = field(default_factory=default_threads)

    install: ClassVar[str]
    """The command that brings the provider."""

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")

    @abstractmethod
    def providers(self) -> list[tuple[str, dict[str, str]]]:
        """Execution providers with their options, the preferred one (this target's) first."""

    def load_libraries(self) -> None:
        """Bring the provider's shared libraries within reach, before a session is made."""

    def missing(self) -> str | None:
        if importlib.util.find_spec("onnxruntime") is None:
            return f"ONNX Runtime is not installed: {self.install}"
        if self.provider not in _available():
            return clashing_builds() or (
                f"{self.provider} is not in this build of ONNX Runtime: {self.install}"
            )
        return None

    def open(
        self,
        model: Path | bytes | ModelParts,
        *,
        profile: bool = False,
        optimized: Path | None = None,
    ) -> Session:
        reason = self.missing()
        if reason is not None:
            raise EnvironmentLacks(reason, where=f"target '{type(self).__name__.lower()}'")
        # Here, not above: the shelf must be able to ask missing() where there is no onnxruntime.
        from deploypipe.runtime.session import OrtSession

        self.load_libraries()
        return OrtSession(
            model, self.providers(), self.threads, profile=profile, optimized=optimized
        )


def clashing_builds() -> str | None:
    """A sentence if both builds of ONNX Runtime are installed: they share their files."""
    installed = [name for name in BUILDS if _installed(name)]
    if len(installed) < 2:
        return None
    return (
        "both 'onnxruntime' and 'onnxruntime-gpu' are installed and overwrite each other: "
        "pip uninstall -y onnxruntime onnxruntime-gpu, then install only one of them"
    )


def _available() -> list[str]:
    import onnxruntime

    names: list[str] = onnxruntime.get_available_providers()
    return names


def _installed(package: str) -> bool:
    return package_version(package) is not None


def loads(library: str) -> bool:
    """Whether the system finds a shared library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
