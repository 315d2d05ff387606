"""What a processor without VNNI would make of 8-bit weights: sums of two products in 16 bits.

The AVX2 kernel for unsigned times signed bytes (``vpmaddubsw``) adds two neighbouring products

    a[k] * w[k] + a[k + 1] * w[k + 1]        a in 0..255, w in -127..127

and keeps the sum within -32768..32767; only then it goes on in 32 bits.  Wherever
|w[k]| + |w[k + 1]| <= 128 nothing can happen.  Elsewhere it depends on the samples, so places of real
activations are drawn and computed both ways; that runs on any host.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph.constants import constant_of
from deploypipe.graph.parts import parts_of
from deploypipe.quantize.lookout import Arrays, whole
from deploypipe.quantize.params import QParams
from deploypipe.quantize.plan import QuantPlan, constants_of
from deploypipe.quantize.profile import Kind
from deploypipe.quantize.signal import decibels
from deploypipe.quantize.units import Unit
from deploypipe.runtime import Target

Integers = npt.NDArray[np.int32]

SAFE = 128
"""The largest |w[k]| + |w[k + 1]| that no activation can take beyond 16 bits."""
PLACES = 64
"""Places of a sample's output that are computed."""
HARMFUL_DB = 40.0
"""Less than that is told."""
TOGETHER = 8
"""Tensors that leave the runtime in one run."""


@dataclass(frozen=True)
class Saturation:
    """Of one unit: the share of weight pairs that could exceed 16 bits, the share of sums that did
    on the samples, and the signal to the error that this makes, in dB."""

    pairs: float
    sums: float
    sqnr_db: float


def saturation(
    model: ir.Model, plan: QuantPlan, samples: Sequence[Arrays], target: Target
) -> dict[str, Saturation]:
    """Unit's name -> what would happen; only units in which anything could.

    ``model`` is the float model that ``plan`` was made for.  Convolutions of one channel a group
    have a kernel of their own that adds in 32 bits.
    """
    weights = {unit: _rows(model, plan, unit) for unit in plan.units if unit.weight is not None}
    risky = {unit: rows for unit, rows in weights.items() if rows is not None and _at_risk(rows)}
    found: dict[str, Saturation] = {}
    units = list(risky)
    for first in range(0, len(units), TOGETHER):
        part = units[first : first + TOGETHER]
        for unit, inputs in _inputs(model, plan, part, samples, target).items():
            found[unit.name] = _compare(model, plan, unit, risky[unit], inputs)
    return found


def saturated(activations: Integers, weights: Integers) -> Integers:
    """int32 [places, out] of [places, K] and [out, K], K even: added as the AVX2 kernel does."""
    sums = []
    for line in activations:
        products = line * weights
        pairs = np.clip(products[:, ::2] + products[:, 1::2], -32768, 32767)
        sums.append(pairs.sum(axis=1, dtype=np.int32))
    return np.stack(sums) if sums else np.zeros((0, len(weights)), np.int32)


def _rows(model: ir.Model, plan: QuantPlan, unit: Unit) -> Integers | None:
    """int32 [out, K], K even, in the order in which kernels add: channels of one tap together."""
    weight = constant_of(constants_of(model)[unit.weight])
    assert weight is not None
    stored = plan.weight_integers(unit, weight).astype(np.int32)
    if unit.kind is Kind.LINEAR:
        rows = stored if unit.axis == 0 else stored.T
    elif stored.shape[1] == 1:
        return None
    else:
        rows = np.moveaxis(stored, 1, -1).reshape(len(stored), -1)
    return np.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))


def _at_risk(rows: Integers) -> bool:
    return bool(_pairs(rows).any())


def _pairs(rows: Integers) -> npt.NDArray[np.bool_]:
    sizes = np.abs(rows)
    return np.asarray(sizes[:, ::2] + sizes[:, 1::2] > SAFE)


def _inputs(
    model: ir.Model,
    plan: QuantPlan,
    units: Sequence[Unit],
    samples: Sequence[Arrays],
    target: Target,
) -> dict[Unit, list[npt.NDArray[np.uint8]]]:
    """What each unit reads, in 8 bits, for every sample."""
    fed = {str(value.name) for value in model.graph.inputs}
    made = sorted({unit.inputs[0] for unit in units} - fed)
    found: dict[Unit, list[npt.NDArray[np.uint8]]] = {unit: [] for unit in units}
    with target.open(parts_of(whole(model, made))) as session:
        for sample in samples:
            answers = {**sample, **(session(sample) if made else {})}
            for unit in units:
                name = unit.inputs[0]
                found[unit].append(_stored(answers[name], plan.tensors[name]))
    return found


def _stored(values: npt.NDArray[np.float32], params: QParams) -> npt.NDArray[np.uint8]:
    steps = np.rint(values / np.float32(params.scale)) + params.zero_point
    return np.asarray(np.clip(steps, 0, 255), np.uint8)


def _compare(
    model: ir.Model,
    plan: QuantPlan,
    unit: Unit,
    rows: Integers,
    inputs: Sequence[npt.NDArray[np.uint8]],
) -> Saturation:
    zero = plan.tensors[unit.inputs[0]].zero_point
    node = next(n for n in model.graph if n.outputs[0].name == unit.result)
    signal = noise = clipped = counted = 0.0
    rng = np.random.default_rng(zlib.crc32(unit.name.encode()))
    for array in inputs:
        for places, part in _places(node, unit, array, rows, zero, rng):
            places = np.pad(places, ((0, 0), (0, places.shape[1] % 2)))
            exact, given = places @ part.T, saturated(places, part)
            # Both have the same zero point taken off afterwards.
            clean = exact - zero * part.sum(axis=1)
            signal += float(np.square(clean, dtype=np.float64).sum())
            noise += float(np.square(given - exact, dtype=np.float64).sum())
            clipped += float((given != exact).sum())
            counted += exact.size
    return Saturation(
        float(_pairs(rows).mean()), clipped / max(counted, 1), decibels(signal, noise)
    )


def _places(
    node: ir.Node,
    unit: Unit,
    array: npt.NDArray[np.uint8],
    rows: Integers,
    zero: int,
    rng: np.random.Generator,
) -> list[tuple[Integers, Integers]]:
    """Drawn places' activations [places, K] with the weights [out, K] that they meet."""
    if unit.kind is Kind.LINEAR:
        lines = array.reshape(-1, array.shape[-1]).astype(np.int32)
        return [(_drawn(lines, rng), rows)]
    weight = node.inputs[1]
    assert weight is not None
    assert weight.shape is not None
    kernel = [int(size) for size in weight.shape.numpy()[2:]]
    groups = node.attributes.get_int("group", 1)
    patches = _patches(node, array, kernel, zero, rng)  # [places, C, taps]
    parts = np.split(patches, groups, axis=1)
    per_group = np.split(rows, groups)
    return [
        (np.moveaxis(part, 1, 2).reshape(len(part), -1), own)
        for part, own in zip(parts, per_group, strict=True)
    ]


def _drawn(lines: Integers, rng: np.random.Generator) -> Integers:
    if len(lines) <= PLACES:
        return lines
    return lines[np.sort(rng.choice(len(lines), PLACES, replace=False))]


def _patches(
    node: ir.Node,
    array: npt.NDArray[np.uint8],
    kernel: Sequence[int],
    zero: int,
    rng: np.random.Generator,
) -> Integers:
    """int32 [places, channels, taps] of drawn places; what lies outside is the zero point."""
    rank = len(kernel)
    strides = list(node.attributes.get_ints("strides", [1] * rank))
    dilations = list(node.attributes.get_ints("dilations", [1] * rank))
    reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    pads = _pads(node, array.shape[2:], kernel, strides, reach)
    padded = np.pad(
        array.astype(np.int32),
        [(0, 0), (0, 0), *((pads[i], pads[i + rank]) for i in range(rank))],
        constant_values=zero,
    )
    sizes = [(padded.shape[2 + i] - reach[i] - 1) // strides[i] + 1 for i in range(rank)]
    total = len(array) * int(np.prod(sizes))
    chosen = rng.choice(total, min(PLACES, total), replace=False)
    place = np.unravel_index(np.sort(chosen), (len(array), *sizes))
    taps = []
    for tap in itertools.product(*(range(size) for size in kernel)):
        at: list[Any] = [place[0], slice(None)]
        at += [place[1 + i] * strides[i] + tap[i] * dilations[i] for i in range(rank)]
        taps.append(padded[tuple(at)])
    return np.stack(taps, axis=2)


def _pads(
    node: ir.Node,
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    reach: Sequence[int],
) -> list[int]:
    """All starts, then all ends."""
    mode, rank = node.attributes.get_string("auto_pad", "NOTSET"), len(kernel)
    if mode in ("NOTSET", "VALID"):
        return list(node.attributes.get_ints("pads", [0] * (2 * rank)))
    needed = [
        max(0, (-(-size // step) - 1) * step + far + 1 - size)
        for size, step, far in zip(sizes, strides, reach, strict=True)
    ]
    small, large = [n // 2 for n in needed], [n - n // 2 for n in needed]
    return small + large if mode == "SAME_UPPER" else large + small


def warning(found: Mapping[str, Saturation], pair_limit: int | None = None) -> list[str]:
    """A sentence if a processor without VNNI would compute something else; else nothing.

    ``pair_limit`` is the profile's, with which there should be nothing to tell.
    """
    harmed = {name: one for name, one in found.items() if one.sqnr_db < HARMFUL_DB}
    if not harmed:
        return []
    name = min(harmed, key=lambda one: harmed[one].sqnr_db)
    remedy = "; for those, another file, by a recipe with quantize: {profile: cpu-avx2}"
    return [
        f"on an x86 processor without VNNI, sums of {len(harmed)} units would exceed 16 bits (worst: "
        f"'{name}', {harmed[name].sqnr_db:.0f} dB){remedy if pair_limit is None else ''}"
    ]
