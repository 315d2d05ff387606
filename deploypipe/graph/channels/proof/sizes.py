"""At which sizes a removal is run: those of the model's inputs, and others, odd ones among them.

What a padded border does differs between odd and even sizes, so one size alone proves little.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.core.errors import UserError
from deploypipe.graph.check import random_feeds

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]

SIZES = ((33, 47), (64, 64), (97, 95), (224, 224))
"""Height and width tried where the model leaves them open; a text is as long as the first."""

LEAST = 8
"""Sizes below are channels or counts rather than pixels or tokens."""


def open_feeds(model: ir.Model) -> Iterator[Feeds]:
    """Inputs of several sizes, odd ones among them, as far as the model's are not fixed."""
    symbols = free_symbols(model)
    for number, (height, width) in enumerate(SIZES if symbols else SIZES[:1]):
        sizes = {name: (height, width)[place % 2] for place, name in enumerate(symbols)}
        try:
            yield random_feeds(model, seed=number, batch=1 + number % 2, sizes=sizes)
        except UserError:
            return  # an input without a rank, or of strings


def free_symbols(model: ir.Model) -> list[str]:
    """Dynamic dimensions other than the batch."""
    dims = [
        dim
        for value in model.graph.inputs
        if value.shape is not None
        for dim in list(value.shape)[1:]
    ]
    return list(dict.fromkeys(d.value for d in dims if isinstance(d, ir.SymbolicDim) and d.value))


def odd_feeds(feeds: Feeds, seed: int = 1) -> Iterator[Feeds]:
    """``feeds`` at other sizes, odd and smaller by about an eighth, for models of fixed ones.

    Which axes are pixels or tokens cannot be told, so there are several readings: the last two
    (NCHW), the last (a signal), those between the first and the last (NHWC, tokens).
    """
    rng = np.random.default_rng(seed)
    readings = [(slice(2, None), 4), (slice(2, None), 3), (slice(1, -1), 3), (slice(1, None), 2)]
    for axes, least in readings:
        shapes = {name: _odd(array.shape, axes, least) for name, array in feeds.items()}
        if any(shape != feeds[name].shape for name, shape in shapes.items()):
            yield {name: _drawn(feeds[name], shape, rng) for name, shape in shapes.items()}


def resized(model: ir.Model, feeds: Feeds) -> ir.Model:
    """A copy that declares the sizes of ``feeds``, and notes none behind its inputs."""
    copy = model.clone()
    for value in copy.graph.inputs:
        if value.name is not None and value.name in feeds:
            value.shape = ir.Shape(feeds[value.name].shape)
    for value in (out for node in copy.graph.all_nodes() for out in node.outputs):
        value.shape = None
    return copy


def _odd(shape: tuple[int, ...], axes: slice, least: int) -> tuple[int, ...]:
    if len(shape) < least:
        return shape
    sizes = list(shape)
    sizes[axes] = [
        size if size < LEAST else (size - size // 8 - 2 * place) | 1
        for place, size in enumerate(sizes[axes])
    ]
    return tuple(sizes)


def _drawn(like: Array, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Numbers at random out of ``like``: what is in its range stays in its range."""
    return rng.choice(like.reshape(-1), shape).astype(like.dtype)
