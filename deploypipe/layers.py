"""Two files layer by layer: where the difference comes from, and what would undo it."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from deploypipe.core.errors import UserError, needs_extra
from deploypipe.core.files import Json
from deploypipe.core.tensors import fixed_batch
from deploypipe.data import Data
from deploypipe.graph.files import load
from deploypipe.runtime import Target
from deploypipe.stages._answers import Question
from deploypipe.validate.feeds import random_feeds, sample_feeds
from deploypipe.validate.inside import Inside, OnnxInside, opened
from deploypipe.validate.layers import compare_layers
from deploypipe.validate.quality import by_metric, by_nearness
from deploypipe.validate.restore import Quality, find_restoring
from deploypipe.validate.subject import is_code
from deploypipe.verbs import Settings, onnx_artifact

SAMPLES = 8

_MAP = 'Write a file such as {"tensor of the reference": "tensor of the candidate"}'


def compare_layer_files(
    reference: str | Path,
    candidate: Path,
    settings: Settings,
    *,
    names: Mapping[str, str] | None = None,
    weights: Path | None = None,
    restore: bool = True,
    options: Mapping[str, Json] | None = None,
) -> Json:
    """Two files layer by layer, and, of a QDQ model, which layers in float restore its answers.

    ``names`` maps tensors of the reference to those of the candidate; by default those of equal
    name are compared.  On the first samples, or on random inputs without data; the restoring
    layers are looked for by the metric on labelled samples, else by the error of the outputs.

    The reference may be ``FILE.py:FUNCTION``, which builds a torch module, with ``weights`` of its
    own or from a file: its submodules are compared with what torch's exporter noted that they
    became.
    """
    target, data = settings.open_target(), settings.open_data()
    second = load(onnx_artifact(candidate).path)
    if weights is not None and not is_code(reference):
        then = "Give FILE.py:FUNCTION as REFERENCE, or leave them out"
        raise UserError("an ONNX file has its own weights", where="--weights", then=then)
    first = None if is_code(reference) else load(onnx_artifact(Path(reference)).path)
    feeds = _feeds(second, target, data)
    batch = len(next(iter(feeds[0].values())))
    there: Inside
    if first is None:
        there, names = _inside_torch(str(reference), weights, second, names)
    else:
        there = OnnxInside(first, target, batch)
    compared = compare_layers(there, OnnxInside(second, target, batch), feeds, names)
    found: dict[str, Json] = {"layers": compared.to_json()}
    if first is None:
        return found
    if restore and any(node.op_type == "DequantizeLinear" for node in second.graph):
        quality = _quality(first, target, data, Question.of(options), feeds)
        drops = {one.candidate: one.drop_db for one in compared.layers if one.drop_db is not None}
        found["restore"] = find_restoring(second, first, quality, quality(first), drops).to_json()
    return found


def _inside_torch(
    name: str, weights: Path | None, exported: ir.Model, names: Mapping[str, str] | None
) -> tuple[Inside, Mapping[str, str]]:
    """The module that a function builds, and which tensor of its export each submodule gives."""
    if importlib.util.find_spec("torch") is None:
        raise needs_extra(name, "torch", "torch")
    inside: Any = importlib.import_module("deploypipe.export.torch_inside")
    torch_model: Any = importlib.import_module("deploypipe.compress.torch_model")
    place, _, function = name.rpartition(":")
    module = torch_model.Builder(f"{Path(place).absolute()}:{function}").build("REFERENCE")
    if weights is not None:
        torch_model.load_weights(module, weights, "--weights")
    names = names or dict(inside.module_names(module, exported))
    if not names:
        raise UserError(
            "the file does not say which of its tensors are those of the module's layers",
            where="CANDIDATE",
            then="Give the export itself, as torch wrote it, or a map: --names FILE.json",
        )
    return inside.TorchInside(module), names


def read_names(file: Path) -> dict[str, str]:
    """A map of names from a JSON file.

    Raises:
        UserError: it is not such a file.
    """
    try:
        names = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("no such file", where=str(file), then=_MAP) from None
    except (OSError, ValueError) as error:
        raise UserError(f"not JSON: {error}", where=str(file), then=_MAP) from error
    if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
        raise UserError("expected one JSON object of names to names", where=str(file), then=_MAP)
    return names


def _feeds(model: ir.Model, target: Target, data: Data | None) -> list[dict[str, np.ndarray]]:
    with opened(model, target) as session:
        inputs = session.inputs
    size = fixed_batch(inputs) or SAMPLES
    if data is None:
        return random_feeds(inputs, batch=size, count=1)
    split = data.split("validation")
    return sample_feeds(split, min(size, len(split)), count=1)


def _quality(
    reference: ir.Model,
    target: Target,
    data: Data | None,
    question: Question,
    feeds: Sequence[Mapping[str, np.ndarray]],
) -> Quality:
    if data is None or data.split("validation").labels is None or question.metric.of_reference:
        return by_nearness(target, reference, feeds)
    split = question.asked(data.split("validation"))
    return by_metric(target, split, question.metric, question.output)
