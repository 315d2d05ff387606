"""deploypipe: a trained torch model in, a smaller, faster and verified ONNX bundle out.

The names below are loaded when they are first used: ``import deploypipe`` costs nothing.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

# ONNX Runtime's official builds send telemetry unless this is set before they initialise.
# Export ORT_DISABLE_TELEMETRY=0 to turn it back on.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

_PLACES = {
    "plan": "pipeline",
    "run": "pipeline",
    "estimate": "estimate",
    "export_model": "verbs",
    "optimize_model": "verbs",
    "quantize_model": "verbs",
    "validate_models": "verbs",
    "bench_models": "verbs",
    "inspect_model": "verbs",
    "pack_model": "verbs",
    "verify_bundle": "verbs",
    "Settings": "verbs",
}

__all__ = [*_PLACES, "__version__"]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in _PLACES:
        raise AttributeError(f"module 'deploypipe' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"deploypipe.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
