"""Inputs to time a model with: from data, or at random where there is none."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from deploypipe.core.errors import UserError, did_you_mean
from deploypipe.core.tensors import TensorSpec
from deploypipe.validate.records import Samples

COUNT = 4
"""Batches to rotate over, so that no branch or cache learns one of them by heart."""


def random_feeds(
    specs: Sequence[TensorSpec],
    *,
    batch: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    count: int = COUNT,
    seed: int = 0,
) -> list[dict[str, np.ndarray]]:
    """Normal floats, and zeros and ones for whole numbers, which are indices everywhere.

    A first dimension that is free becomes ``batch``.

    Raises:
        UserError: another dimension is free and ``shapes`` does not say how large it is, or an
            input is no tensor of numbers.
    """
    generator = np.random.default_rng(seed)
    given = {name: tuple(shape) for name, shape in (shapes or {}).items()}
    for name in given.keys() - {spec.name for spec in specs}:
        known = did_you_mean(name, [spec.name for spec in specs])
        raise UserError(f"a shape is given for '{name}', which is no input, {known}")
    sizes = {spec.name: given.get(spec.name) or _shape(spec, batch) for spec in specs}
    return [
        {spec.name: _random(spec, sizes[spec.name], generator) for spec in specs}
        for _ in range(count)
    ]


def sample_feeds(
    samples: Samples, batch: int = 1, count: int = COUNT
) -> list[dict[str, np.ndarray]]:
    """The first full batches of a split, at most ``count``."""
    most = min(count, len(samples) // batch)
    if most < 1:
        raise UserError(
            f"a batch of {batch} was asked for, the split has {len(samples)} samples",
            where=samples.name,
            then="Ask for a smaller batch, or give more samples",
        )
    taken = itertools.islice(samples.batches(batch, most * batch), most)
    return [dict(one.inputs) for one in taken]


def _shape(spec: TensorSpec, batch: int) -> tuple[int, ...]:
    first = tuple(batch if isinstance(size, str) else size for size in spec.shape[:1])
    rest = tuple(size for size in spec.shape[1:] if isinstance(size, int))
    if len(first) + len(rest) != len(spec.shape):
        raise UserError(
            f"the input {spec} has free dimensions besides the first",
            where=spec.name,
            then="Give its shape, or data to time with",
        )
    return first + rest


def _random(spec: TensorSpec, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    if spec.dtype.startswith("float"):
        return generator.standard_normal(shape).astype(spec.dtype)
    if not spec.dtype.startswith(("int", "uint", "bool")):
        raise UserError(
            f"the input {spec} is no tensor of numbers that can be drawn", then="Give data"
        )
    return generator.integers(0, 2, shape).astype(spec.dtype)
