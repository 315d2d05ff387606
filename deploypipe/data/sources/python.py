"""Samples that a function of the user's makes."""

from __future__ import annotations

import functools
import hashlib
import importlib
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from deploypipe.core.errors import DeploypipeError, UserError, did_you_mean
from deploypipe.core.shelf import load_file
from deploypipe.data.arrays import LABEL, Arrays, checked, labels_of, numeric
from deploypipe.data.source import Raw, Source, numbered
from deploypipe.data.spec import locate


@dataclass(frozen=True)
class Python(Source):
    """What ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION`` returns when called without arguments.

    It may return a mapping of arrays named after the model's inputs (and ``label``), a pair
    ``(inputs, labels)``, or an iterable of samples, each a mapping or such a pair.  In place of a
    mapping, uint8 images ``[N, H, W, C]`` (a sample: ``[H, W, C]``) are preprocessed as images.
    """

    function: str
    folder: Path = Path()

    def __post_init__(self) -> None:
        place, colon, name = self.function.rpartition(":")
        if not (place and colon and name):
            raise ValueError(f"expected FILE.py:FUNCTION or MODULE:FUNCTION, got '{self.function}'")

    def ids(self) -> Sequence[str]:
        return self._made.ids

    def digests(self) -> Sequence[str]:
        return self._digests

    def read(self, indices: Sequence[int]) -> Raw:
        if isinstance(self._made, _Pictures):
            return Raw(images=[self._made.images[index] for index in indices])
        return Raw(inputs=self._made.at(indices))

    def labels(self) -> np.ndarray | None:
        return self._made.labels

    @functools.cached_property
    def _digests(self) -> tuple[str, ...]:
        return self._made.digests()

    @functools.cached_property
    def _made(self) -> Arrays | _Pictures:
        name = self.function.rpartition(":")[2]
        return _samples(*self._returned(), self.function, name)

    def _returned(self) -> tuple[Any, Any]:
        """Inputs and labels as the function gives them; an iterable is run to its end."""
        function = _function(self.function, self.folder)
        try:
            returned = _run_out(function())
        except DeploypipeError:
            raise
        except Exception as error:
            raise _raised(self.function, error) from error
        return _inputs_and_labels(returned, self.function)


@dataclass(frozen=True)
class _Pictures:
    """uint8 images ``[H, W, C]`` of any size."""

    images: Sequence[np.ndarray]
    labels: np.ndarray | None
    ids: tuple[str, ...]

    def digests(self) -> tuple[str, ...]:
        contents = (str(i.shape).encode() + np.ascontiguousarray(i).tobytes() for i in self.images)
        return tuple(hashlib.sha256(content).hexdigest() for content in contents)


def _function(text: str, folder: Path) -> Callable[[], Any]:
    place, _, name = text.rpartition(":")
    module = _module(place, text, folder)
    known = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(
            f"{place} has no function '{name}', {did_you_mean(name, known)}", where=text
        )
    return function  # type: ignore[no-any-return]


def _module(place: str, where: str, folder: Path) -> ModuleType:
    if place.endswith(".py") or "/" in place:
        return load_file(locate(place, where, folder), where)
    try:
        return importlib.import_module(place)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and place.startswith(error.name or "?"):
            then = f"For a file, write {place}.py:FUNCTION"
            raise UserError(f"no module '{place}'", where=where, then=then) from error
        raise _raised(where, error) from error


def _raised(where: str, error: Exception) -> UserError:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return UserError(
        f"raises {type(error).__name__}: {error}",
        where=where,
        then=f"See line {last.lineno} of {last.filename}",
    )


def _run_out(returned: Any) -> Any:
    """The same with every lazy iterable as a list, so that the user's code has run."""
    if _is_pair(returned):
        return _run_out(returned[0]), returned[1]
    lazy = isinstance(returned, Iterable) and not isinstance(returned, Mapping | str | bytes)
    return list(returned) if lazy and not hasattr(returned, "__array__") else returned


def _is_pair(returned: Any) -> bool:
    """Whether this is ``(inputs, labels)``; two mappings are two samples."""
    two = isinstance(returned, tuple) and len(returned) == 2
    return two and not isinstance(returned[1], Mapping)


def _inputs_and_labels(returned: Any, where: str) -> tuple[Any, Any]:
    if isinstance(returned, Mapping):
        return {k: v for k, v in returned.items() if k != LABEL}, returned.get(LABEL)
    if _is_pair(returned):
        return returned[0], returned[1]
    if hasattr(returned, "__array__"):
        return np.asarray(returned), None
    if not isinstance(returned, list):
        raise UserError(
            f"the function returns {type(returned).__name__}",
            where=where,
            then="Return a mapping of arrays, (inputs, labels), or an iterable of samples",
        )
    return _stacked([_inputs_and_labels(sample, where) for sample in returned], where)


def _stacked(samples: list[tuple[Any, Any]], where: str) -> tuple[Any, Any]:
    """Single samples put together; their shapes must agree, but for images."""
    labelled = [label for _, label in samples if label is not None]
    if labelled and len(labelled) != len(samples):
        raise UserError(
            f"{len(labelled)} of {len(samples)} samples have a label", where=where, then="Label all"
        )
    labels = _stack(labelled, LABEL, where) if labelled else None
    inputs = [inputs for inputs, _ in samples]
    if not inputs or not isinstance(inputs[0], Mapping):
        return inputs, labels
    names = sorted(inputs[0])
    for number, one in enumerate(inputs):
        if not isinstance(one, Mapping) or sorted(one) != names:
            raise UserError(
                f"sample {number} has other inputs than the first: {names}", where=where
            )
    return {key: _stack([one[key] for one in inputs], key, where) for key in names}, labels


def _stack(values: Sequence[Any], key: str, where: str) -> np.ndarray:
    arrays = [numeric(value, key, where) for value in values]
    for number, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise UserError(
                f"'{key}' of sample {number} has shape {list(array.shape)}, "
                f"of the first {list(arrays[0].shape)}",
                where=where,
            )
    return np.stack(arrays)


def _samples(inputs: Any, labels: Any, where: str, name: str) -> Arrays | _Pictures:
    if isinstance(inputs, Mapping):
        given = {**inputs} if labels is None else {**inputs, LABEL: labels}
        return checked(given, where, name)
    images = [numeric(image, "image", where) for image in inputs]
    for number, image in enumerate(images):
        if image.dtype != np.uint8 or image.ndim != 3:
            raise UserError(
                f"sample {number} is {image.dtype}{list(image.shape)} and has no name, "
                "only uint8 images [H, W, C] need none",
                where=where,
                then="Return a mapping from the model's input names to arrays",
            )
    ids = numbered(name, len(images))
    if labels is None:
        return _Pictures(images, None, ids)
    marks = numeric(labels, LABEL, where)
    if marks.ndim == 0 or len(marks) != len(images):
        raise UserError(
            f"labels of shape {list(marks.shape)} for {len(images)} images", where=where
        )
    return _Pictures(images, labels_of(marks, ids), ids)
