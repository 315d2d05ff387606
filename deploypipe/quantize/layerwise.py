"""Round the weights of one layer after the other, with what the quantized layers before it give.

The float and the quantized model are walked through side by side.  At every layer the products of its
inputs are summed, a solver chooses the integers, the mean that is left goes into the bias, and the
next layer sees the result.  To aim at the float layer's results on the float model's inputs instead, so
as to make up for the layers before, was tried: with a few thousand rows it fits noise, and costs
0.9 dB on ResNet-20.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph.constants import constant_of
from deploypipe.quantize.correction import Correction, Draft
from deploypipe.quantize.corrections.bias import takes_bias
from deploypipe.quantize.corrections.sequential import Biases
from deploypipe.quantize.patches import Floats, Window, grouped, shrunk, ungrouped, window_of
from deploypipe.quantize.plan import constants_of
from deploypipe.quantize.units import Unit
from deploypipe.quantize.walk import Held, Walk, affordable

Integers = npt.NDArray[np.int8]

LARGEST = 6144
"""Inputs times taps of a layer above which its products would not be worth their time and memory."""


@dataclass(frozen=True)
class Task:
    """Choose integers for float64 [groups, outputs, K] ``weight`` with [groups, outputs, 1] scales.

    The aim is a small ``|(weight - integers * scales) x|^2`` over the rows x that the quantized
    layers before give; ``products`` are float64 [groups, K, K], the sums of x x^T.  With a
    ``pair_limit``, the magnitudes of a column and the one ``taps`` before it, which is the input
    beside it, add up to no more.
    """

    weight: Floats
    scales: Floats
    limit: int
    products: Floats
    pair_limit: int | None = None
    taps: int = 1

    def nearest(self) -> Floats:
        """Each weight rounded for itself, as float64."""
        return self.within(np.rint(self.weight / self.scales))

    def room(self, integers: Floats, column: int) -> Floats | int:
        """The largest magnitude that a column may take beside those before it."""
        before = column - self.taps
        if self.pair_limit is None or before < 0:
            return self.limit
        beside = np.abs(integers[..., before : before + 1])
        return np.asarray(np.minimum(self.limit, self.pair_limit - beside))

    def within(self, integers: Floats) -> Floats:
        """The integers, those that are too large clipped."""
        held = np.clip(integers, -self.limit, self.limit)
        if self.pair_limit is not None:
            for column in range(held.shape[-1]):
                room, own = self.room(held, column), held[..., column : column + 1]
                np.clip(own, -room, room, out=own)
        return np.asarray(held)


@dataclass(frozen=True)
class Layerwise(Correction):
    """Integers chosen layer by layer, with their biases.

    At most ``samples`` samples are walked through, and ``rows`` of each one's inputs looked at.
    """

    samples: int = 32
    rows: int = 256

    def __post_init__(self) -> None:
        if self.samples < 1 or self.rows < 1:
            raise ValueError("samples and rows must be at least 1")

    @abstractmethod
    def solve(self, task: Task) -> Floats:
        """float64 [groups, outputs, K] integers."""

    def propose(self, draft: Draft) -> Draft | None:
        """All layers, one after the other; None where none has weights of its own."""
        return _rounded(draft, self.solve, self.samples, self.rows)


def _rounded(
    draft: Draft, solve: Callable[[Task], Floats], samples: int, rows: int
) -> Draft | None:
    shop, plan = draft.shop, draft.made.plan
    shared = Counter(unit.weight for unit in plan.units)
    units = [unit for unit in plan.units if unit.weight is not None]
    if all(shared[unit.weight] > 1 for unit in units):
        return None
    largest = max(one.elements for one in shop.seen.histograms.values())
    lessons = affordable(draft.lessons[:samples], 2 * largest)
    exact, walk = (
        Walk(one, lessons, shop.target) for one in (shop.model, draft.made.model.clone())
    )
    biases, integers = Biases(shop.model, plan), dict(plan.integers)
    for unit in units:
        exact.before(unit.result)
        walk.before(unit.result)
        task = _task(draft, unit, walk, rows) if shared[unit.weight] == 1 else None
        if task is not None:
            chosen = task.within(solve(task)).astype(np.int8)
            integers[unit.result] = ungrouped(chosen, unit, _weight(shop.model, unit).shape)
            _store(walk, unit, integers[unit.result])
        exact.after(unit.result)
        walk.after(unit.result)
        if takes_bias(unit):
            biases.settle(unit, exact.held, walk.held)
    return draft.with_plan(replace(plan, integers=integers, biases=biases.found))


def _weight(model: ir.Model, unit: Unit) -> npt.NDArray[np.float32]:
    array = constant_of(constants_of(model)[unit.weight])
    assert array is not None
    return np.asarray(array, np.float32)


def _task(draft: Draft, unit: Unit, walk: Walk, rows: int) -> Task | None:
    node = _maker(walk.model, unit.result)
    array = _weight(draft.shop.model, unit)
    window = window_of(node, unit, array.shape)
    if window is None:
        return None
    weight = grouped(array, unit, window.groups).astype(np.float64)
    if weight.shape[2] > LARGEST:
        return None
    assert node.inputs[0] is not None
    products = _products(window, walk.held, str(node.inputs[0].name), rows, takes_bias(unit))
    plan, profile = draft.made.plan, draft.shop.profile
    scales = np.asarray(plan.weights[unit.result].scales).reshape(*weight.shape[:2], 1)
    taps = int(np.prod(window.spatial))
    return Task(weight, scales, profile.weight_limit, products, profile.pair_limit, taps)


def _products(window: Window, held: Sequence[Held], name: str, rows: int, centred: bool) -> Floats:
    """float64 [groups, K, K] of all samples' rows; ``centred`` takes the means off, which the bias
    will see to."""
    products: Floats | None = None
    total, count = 0.0, 0
    for seed, arrays in enumerate(held):
        given = window.rows(arrays[name], rows, seed)
        one = np.asarray(given.transpose(0, 2, 1) @ given, np.float64)
        products = one if products is None else products + one
        total, count = total + given.sum(1, keepdims=True, dtype=np.float64), count + given.shape[1]
    assert products is not None
    if centred and count:
        products -= np.asarray(total).transpose(0, 2, 1) @ np.asarray(total) / count
    width = products.shape[-1]
    return shrunk(products, 2 * width / (2 * width + count))


def _maker(model: ir.Model, name: str) -> ir.Node:
    return next(node for node in model.graph if node.outputs[0].name == name)


def _store(walk: Walk, unit: Unit, integers: Integers) -> None:
    """Other integers in the walked model; equal ones of other layers stay as they are."""
    weight = _maker(walk.model, unit.result).inputs[1]
    back = weight.producer() if weight is not None else None
    assert back is not None
    walk.store(back, 0, integers)
