"""The names of the classes that a model carries in its metadata, and whether two models agree."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from deploypipe.core.errors import UserError

KEYS = ("classes", "class_names", "names", "labels", "label_names", "id2label")
"""Under which exporters keep them: as JSON, as Python literals, or one a line or comma."""


def class_names(model: ir.Model) -> tuple[str, ...] | None:
    """The names in the order of the outputs; None where the model carries none."""
    for key in KEYS:
        text = model.metadata_props.get(key)
        names = _names(_value(text)) if text else None
        if names:
            return names
    return None


def check_same_classes(reference: ir.Model, candidate: ir.Model) -> None:
    """Raise a user's error where both models name their classes and the names or order differ."""
    theirs, mine = class_names(reference), class_names(candidate)
    if theirs is None or mine is None or theirs == mine:
        return
    if len(theirs) != len(mine):
        what = f"{len(theirs)} classes against {len(mine)}"
    else:
        place = next(i for i, (a, b) in enumerate(zip(theirs, mine, strict=True)) if a != b)
        what = f"class {place} is '{theirs[place]}' in the reference, '{mine[place]}' here"
        what += ", the same names in another order" if set(theirs) == set(mine) else ""
    raise UserError(
        f"the two models do not have the same classes: {what}",
        where="candidate",
        then="Compare models with the same classes in the same order",
    )


def _value(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return [part.strip() for part in text.replace("\n", ",").split(",") if part.strip()]


def _names(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, Mapping):
        try:
            value = [name for _, name in sorted((int(k), name) for k, name in value.items())]
        except (TypeError, ValueError):
            return None
    if not isinstance(value, list | tuple) or len(value) < 2:
        return None
    return tuple(str(name) for name in value)
