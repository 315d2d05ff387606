"""Two files layer by layer: where the difference comes from, and what would undo it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from deploypipe.core.errors import UserError
from deploypipe.core.files import Json
from deploypipe.core.tensors import fixed_batch
from deploypipe.data import Data
from deploypipe.graph.files import load
from deploypipe.runtime import Target
from deploypipe.stages._answers import Question
from deploypipe.validate.feeds import random_feeds, sample_feeds
from deploypipe.validate.inside import OnnxInside, opened
from deploypipe.validate.layers import compare_layers
from deploypipe.validate.quality import by_metric, by_nearness
from deploypipe.validate.restore import Quality, find_restoring
from deploypipe.verbs import Settings, onnx_artifact

SAMPLES = 8


def compare_layer_files(
    reference: Path,
    candidate: Path,
    settings: Settings,
    *,
    names: Mapping[str, str] | None = None,
    restore: bool = True,
    options: Mapping[str, Json] | None = None,
) -> Json:
    """Two files layer by layer, and, of a QDQ model, which layers in float restore its answers.

    ``names`` maps tensors of the reference to those of the candidate; by default those of equal
    name are compared.  On the first samples, or on random inputs without data; the restoring
    layers are looked for by the metric on labelled samples, else by the error of the outputs.
    """
    target, data = settings.open_target(), settings.open_data()
    first, second = (load(onnx_artifact(file).path) for file in (reference, candidate))
    feeds = _feeds(second, target, data)
    batch = len(next(iter(feeds[0].values())))
    inside = OnnxInside(first, target, batch), OnnxInside(second, target, batch)
    compared = compare_layers(*inside, feeds, names)
    found: dict[str, Json] = {"layers": compared.to_json()}
    if restore and any(node.op_type == "DequantizeLinear" for node in second.graph):
        quality = _quality(first, target, data, Question.of(options), feeds)
        drops = {one.candidate: one.drop_db for one in compared.layers if one.drop_db is not None}
        found["restore"] = find_restoring(second, first, quality, quality(first), drops).to_json()
    return found


def read_names(file: Path) -> dict[str, str]:
    """A map of names from a JSON file.

    Raises:
        UserError: it is not such a file.
    """
    try:
        names = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("no such file", where=str(file)) from None
    except (OSError, ValueError) as error:
        raise UserError(f"not JSON: {error}", where=str(file)) from error
    if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
        raise UserError("expected one JSON object of names to names", where=str(file))
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
    if data is None or data.split("validation").labels is None:
        return by_nearness(target, reference, feeds)
    split = question.asked(data.split("validation"))
    return by_metric(target, split, question.metric, question.output)
