"""A certificate with both its graphs, to be written and checked, and the means to spoil it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from deploypipe.core.errors import IntegrityError
from deploypipe.witness.check import Checked, check_channels

HEAD = '<ir_version: 9, opset_import: ["" : 17]> g '


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def without(array: np.ndarray, axis: int, *indices: int) -> np.ndarray:
    return np.delete(array, indices, axis)


def cells(
    tensor: str, axis: int, size: int, what: str, found: dict[int, float | None], kind: str = ""
) -> dict[str, Any]:
    kind = kind or ("weight" if what == "cut" else "activation")
    listed = [
        {"index": index, "is": what, "value": value, "because": "test", "from": []}
        for index, value in found.items()
    ]
    return {"tensor": tensor, "axis": axis, "size": size, "kind": kind, "cells": listed}


def zero(tensor: str, axis: int, size: int, *indices: int, **more: str) -> dict[str, Any]:
    return cells(tensor, axis, size, "zero", dict.fromkeys(indices, 0.0), **more)


def constant(tensor: str, axis: int, size: int, **found: float) -> dict[str, Any]:
    return cells(tensor, axis, size, "constant", {int(k[1:]): v for k, v in found.items()})


def kept(tensor: str, **found: float) -> dict[str, Any]:
    index = [int(key[1:]) for key in found]
    return {"tensor": tensor, "axis": 1, "index": index, "values": list(found.values())}


def unread(tensor: str, axis: int, size: int, *indices: int) -> dict[str, Any]:
    return cells(tensor, axis, size, "unread", dict.fromkeys(indices))


def cut(tensor: str, axis: int, size: int, *indices: int) -> dict[str, Any]:
    return cells(tensor, axis, size, "cut", dict.fromkeys(indices))


def taken(tensor: str, source: str, how: str, into: int | None, **found: float) -> dict[str, Any]:
    removed = [int(key[1:]) for key in found]
    values = list(found.values())
    names = {"tensor": tensor, "input": source, "axis": 1}
    return {**names, "removed": removed, "values": values, "how": how, "into": into}


@dataclass
class Case:
    """Two graphs as text, their weights, and what a certificate says."""

    before: str
    before_weights: dict[str, np.ndarray]
    after: str
    after_weights: dict[str, np.ndarray]
    removed: list[dict[str, Any]]
    unread: list[dict[str, Any]] = field(default_factory=list)
    compensations: list[dict[str, Any]] = field(default_factory=list)
    replaced: list[dict[str, Any]] = field(default_factory=list)
    constants: list[dict[str, Any]] = field(default_factory=list)

    def check(self, folder: Path, **options: Any) -> Checked:
        return check_channels(*self.write(folder), **options)

    def write(self, folder: Path) -> tuple[Path, Path, Path]:
        names = ("removed", "unread", "compensations", "replaced", "constants")
        said = {"format": "deploypipe-channels", "version": 1}
        files = folder / "before.onnx", folder / "after.onnx", folder / "channels.json"
        write_model(files[0], self.before, self.before_weights)
        write_model(files[1], self.after, self.after_weights)
        files[2].write_text(json.dumps({**said, **{name: getattr(self, name) for name in names}}))
        return files


def write_model(file: Path, text: str, arrays: dict[str, np.ndarray]) -> None:
    model = onnx.parser.parse_model(HEAD + text)
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    onnx.save(model, file)


Wrong = tuple[Callable[[], Case], Callable[[Case], Any], tuple[str, ...]]


def entry(case: Case, tensor: str) -> dict[str, Any]:
    return next(item for item in case.removed if item["tensor"] == tensor)


def say(case: Case, tensor: str, **changes: Any) -> None:
    """Change what is said of the first cell of a tensor."""
    entry(case, tensor)["cells"][0].update(changes)


def change(array: np.ndarray, at: Any, value: Any) -> None:
    array[at] = value


def scale(case: Case, name: str, at: Any, factor: float) -> None:
    case.after_weights[name][at] *= factor


def both(case: Case, old: str, new: str) -> None:
    """Change the text of both graphs."""
    case.before, case.after = (text.replace(old, new) for text in (case.before, case.after))


def swap(case: Case, name: str, axis: int) -> None:
    """The first two kept cells of a weight of AFTER change places."""
    array = case.after_weights[name]
    order = [1, 0, *range(2, array.shape[axis])]
    case.after_weights[name] = np.take(array, order, axis)


def instead(case: Case, name: str, axis: int, *indices: int) -> None:
    """Other cells of a weight than those of the certificate are gone."""
    case.after_weights[name] = without(case.before_weights[name], axis, *indices)


def forget(case: Case, tensor: str) -> None:
    case.removed.remove(entry(case, tensor))


def repeat(case: Case, tensor: str) -> None:
    entry(case, tensor)["cells"].append(entry(case, tensor)["cells"][0])


def assert_refused(wrong: Wrong, folder: Path) -> None:
    make, spoil, told = wrong
    case = make()
    spoil(case)
    with pytest.raises(IntegrityError) as error:
        case.check(folder)
    assert all(text in str(error.value) for text in told), str(error.value)
