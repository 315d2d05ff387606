"""Is everything here that a run needs?  Versions, targets, extras; with a recipe, its checks.

And what is wrong with a quantized model.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from deploypipe.core.errors import DeploypipeError, UserError
from deploypipe.core.files import Json
from deploypipe.core.options import build
from deploypipe.core.shelf import EXTRA_OF
from deploypipe.graph.files import load, save
from deploypipe.pipeline import plan
from deploypipe.quantize.examine import examine_quantized, repair, summary
from deploypipe.runtime import TARGETS, Target, host
from deploypipe.runtime.onnx_runtime import clashing_builds


def examine(recipe: Path | None = None) -> dict[str, Json]:
    """Facts about this machine; with a recipe also the first thing that would go wrong.

    ``exit_code`` is 0 if nothing would, else that of the error.
    """
    found: dict[str, Json] = {
        "host": host(),
        "onnxruntime_builds": clashing_builds() or "no clash",
        "targets": {name: _target(name) for name in TARGETS.names()},
        "extras": {module: _extra(module) for module in EXTRA_OF},
        "exit_code": 0,
    }
    if recipe is not None:
        found["recipe"], found["exit_code"] = _recipe(recipe)
    return found


def examine_model(file: Path, target: Target, repaired: Path | None = None) -> dict[str, Json]:
    """Which 8-bit nodes of a model run in float, and why; ``repaired`` is where to mend it.

    Raises:
        UserError: the file is no ONNX model, cannot be opened, or is where ``repaired`` goes.
    """
    model = load(file)
    count, findings = examine_quantized(model, target)
    found: dict[str, Json] = {
        "answer": summary(count, findings),
        "findings": [one.to_json() for one in findings],
    }
    if repaired is not None:
        if repaired.exists() and repaired.samefile(file):
            raise UserError(
                "the output is the input", where=str(repaired), then="Give another path"
            )
        mended = repair(model)
        save(mended.model, repaired)
        count, left = examine_quantized(mended.model, target)
        found["repaired"] = {
            "output": str(repaired),
            "changes": mended.changes,
            "answer": summary(count, left),
        }
    return found


def _target(name: str) -> str:
    try:
        return build(TARGETS.get(name), {}, name).missing() or "ready"
    except DeploypipeError as error:  # of somebody's plug-in
        return str(error)


def _extra(module: str) -> str:
    if importlib.util.find_spec(module):
        return "installed"
    return f"not installed: pip install 'deploypipe[{EXTRA_OF[module]}]'"


def _recipe(file: Path) -> tuple[Json, int]:
    try:
        planned = plan(file)
    except DeploypipeError as error:
        return str(error), error.exit_code
    notes = planned.data.notes
    splits = {name: len(split) for name, split in planned.data.splits.items()}
    return {"answer": "nothing stands in the way", "splits": splits, "notes": notes}, 0
