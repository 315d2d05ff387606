"""Is everything here that a run needs?  Versions, targets, extras; with a recipe, its checks.

And what is wrong with a quantized model.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import onnx_ir as ir

from deploypipe.core.errors import DeploypipeError, UserError
from deploypipe.core.files import Json
from deploypipe.core.options import build
from deploypipe.core.shelf import EXTRA_OF
from deploypipe.graph import Outcome
from deploypipe.graph.channels.proof.sizes import open_feeds
from deploypipe.graph.files import data_files, load, save
from deploypipe.graph.output import check_output
from deploypipe.graph.parts import parts_of
from deploypipe.pipeline import plan
from deploypipe.quantize.examine import examine_quantized, summary
from deploypipe.quantize.mend import ALIKE_DB, agreement, mend
from deploypipe.runtime import TARGETS, Feeds, Target, host
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
        UserError: the file is no ONNX model, cannot be opened, or is where ``repaired`` goes; or
            the mended model answers otherwise, then nothing is written.
    """
    model = load(file)
    count, findings = examine_quantized(model, target)
    found: dict[str, Json] = {
        "answer": summary(count, findings),
        "findings": [one.to_json() for one in findings],
    }
    if repaired is not None:
        check_output(repaired, [file, *data_files(file).values()], "--repair")
        mended = mend(model)
        checked = _checked(model, mended, target)
        count, left = examine_quantized(mended.model, target)
        save(mended.model, repaired)
        found["repaired"] = {
            "output": str(repaired),
            "changes": mended.changes,
            "refusals": mended.refusals,
            "checked": checked,
            "answer": summary(count, left),
        }
    return found


def _checked(model: ir.Model, mended: Outcome, target: Target) -> str:
    """What the mended model was compared on.

    Raises:
        UserError: it answers otherwise.
    """
    if not mended.modified:
        return "nothing was changed"
    samples = _answered(model, target)
    if not samples:
        return "on no input: none that the model takes could be drawn at random"
    kept = agreement(model, mended.model, samples, target)
    if not kept >= ALIKE_DB:
        raise UserError(
            f"the mended model keeps {kept:.1f} dB of what the model answers on random inputs, "
            f"{ALIKE_DB:g} were to be kept; nothing is written",
            then="Report the model: a repair changes no number, but on a processor without VNNI the "
            "kernels themselves may",
        )
    return f"{len(samples)} random inputs, {kept:.0f} dB kept"


def _answered(model: ir.Model, target: Target) -> list[Feeds]:
    """Random inputs, those that the model takes."""
    found = list[Feeds]()
    with target.open(parts_of(model)) as session:
        for feeds in open_feeds(model):
            try:
                session(feeds)
            except UserError:  # of a size that it does not take
                continue
            found.append(feeds)
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
