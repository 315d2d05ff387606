"""The rows that a layer's weights are multiplied with, and their products: what rounding is judged by."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.quantize.profile import Kind
from deploypipe.quantize.units import Unit

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """How a layer reads its input: ``spatial`` is a convolution's kernel, none for a linear layer."""

    groups: int
    spatial: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]

    def rows(self, array: npt.NDArray[Any], count: int, seed: int) -> Rows:
        """float32 [groups, rows, inputs of a group times taps]: at most ``count`` of an array's
        rows, the same places for the same seed and shape."""
        generator = np.random.default_rng(seed)
        if not self.spatial:
            flat = array.reshape(-1, array.shape[-1])
            return flat[_some(len(flat), count, generator)][None]
        rank = len(self.spatial)
        pads = list(zip(self.pads[:rank], self.pads[rank:], strict=True))
        padded = np.pad(array, [(0, 0), (0, 0), *pads])
        reach = [d * (k - 1) for k, d in zip(self.spatial, self.dilations, strict=True)]
        sizes = [
            (n - r - 1) // s + 1
            for n, r, s in zip(padded.shape[2:], reach, self.strides, strict=True)
        ]
        total = array.shape[0] * int(np.prod(sizes))
        batch, *places = np.unravel_index(_some(total, count, generator), [array.shape[0], *sizes])
        taps = []
        for tap in itertools.product(*map(range, self.spatial)):
            steps = zip(places, self.strides, tap, self.dilations, strict=True)
            at = [place * stride + t * dilation for place, stride, t, dilation in steps]
            here: tuple[Any, ...] = (batch, slice(None), *at)
            taps.append(padded[here])  # [rows, channels]
        rows = np.stack(taps, -1)
        rows = rows.reshape(len(rows), self.groups, -1)
        return np.ascontiguousarray(rows.transpose(1, 0, 2), np.float32)


def window_of(node: ir.Node, unit: Unit, shape: tuple[int, ...]) -> Window | None:
    """Of a unit's node with a weight of this shape; None where its padding depends on the size."""
    if unit.kind is Kind.LINEAR:
        return Window(1, (), (), (), ())
    attributes, spatial = node.attributes, shape[2:]
    if attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return None
    ones = [1] * len(spatial)
    strides = attributes.get_ints("strides", ones)
    dilations = attributes.get_ints("dilations", ones)
    pads = attributes.get_ints("pads", [0, 0] * len(spatial))
    groups = attributes.get_int("group", 1)
    return Window(groups, spatial, tuple(strides), tuple(dilations), tuple(pads))


def grouped(weight: npt.NDArray[Any], unit: Unit, groups: int) -> npt.NDArray[Any]:
    """[groups, outputs of a group, inputs of a group times taps] of a weight."""
    if unit.kind is Kind.LINEAR:
        return (weight.T if unit.axis == 1 else weight)[None]
    return weight.reshape(groups, weight.shape[0] // groups, -1)


def ungrouped(rows: npt.NDArray[Any], unit: Unit, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """What `grouped` was given."""
    if unit.kind is Kind.LINEAR:
        return np.ascontiguousarray(rows[0].T if unit.axis == 1 else rows[0])
    return rows.reshape(shape)


def _some(total: int, count: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    if total <= count:
        return np.arange(total)
    return np.sort(generator.choice(total, count, replace=False))


def shrunk(products: Floats, share: float) -> Floats:
    """Drawn towards independent inputs of equal power: what few rows seem to say is chance."""
    width = products.shape[-1]
    power = np.einsum("gii->g", products) / width
    even = power[:, None, None] * np.eye(width)
    return np.asarray((1 - share) * products + share * even)
