"""Sites where channels can change their scale between a producer and its readers, for nothing.

    y = f(x / s) (s w)      is      f(x) w      for every s > 0

if what makes x can take the division (a normalisation's scale and bias, the weights and bias of the
layer before) and everything between it and the readers' weights passes positive factors on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph.constants import constant_of
from deploypipe.graph.parts import parts_of
from deploypipe.quantize.correction import Draft
from deploypipe.quantize.lookout import Arrays, whole
from deploypipe.quantize.observe import observe
from deploypipe.quantize.plan import constants_of
from deploypipe.quantize.profile import Kind
from deploypipe.quantize.units import Unit
from deploypipe.runtime import Target

Floats = npt.NDArray[np.float64]
Operands = tuple[tuple[str, int], ...]
"""Names of constants, each with an axis."""

_FREE = frozenset({"Relu", "LeakyRelu"})
_POOLS = _FREE | {"MaxPool", "AveragePool", "GlobalAveragePool"}
"""Operators with f(c x) = c f(x) for c > 0 that keep every channel to itself."""
_FLAT = frozenset({"Flatten", "Reshape", "Squeeze"})


@dataclass(frozen=True)
class Site:
    """``tensor`` has ``channels`` along ``axis``; ``tensors`` are those that scale with it.

    ``divided`` are the producer's constants, each with the axis of its channels; ``readers`` are the
    units whose weights are multiplied.
    """

    tensor: str
    tensors: tuple[str, ...]
    axis: int
    channels: int
    divided: Operands
    readers: tuple[Unit, ...]


@dataclass(frozen=True)
class ChannelStats:
    """Of a site's tensor, float64 [channels]: the means of the samples' own extremes, the mean
    square, the share of values not zero."""

    low: Floats
    high: Floats
    square: Floats
    alive: Floats


def norm_sites(model: ir.Model, units: Sequence[Unit]) -> list[Site]:
    """Normalisations over the last axis whose output only linear layers read."""
    readers = _by_reading(units)
    found = []
    for node in model.graph:
        divided = _norm_constants(node)
        if not divided:
            continue
        output = node.outputs[0]
        reached = _readers(output, model, readers, True)
        if reached is not None:
            channels = _sizes(model, divided)[0]
            tensors = (str(output.name), *reached[1])
            site = Site(tensors[0], tensors, -1, channels, divided, reached[0])
            found += _sound(model, site)
    return found


def layer_sites(model: ir.Model, units: Sequence[Unit]) -> list[Site]:
    """Layers whose output reaches other layers through nothing but homogeneous operators."""
    readers, values = _by_reading(units), {o.name: o for n in model.graph for o in n.outputs}
    found = []
    for unit in units:
        if unit.weight is None or unit.high != np.inf or unit.low not in (0.0, -np.inf):
            continue
        last = unit.kind is Kind.LINEAR
        reached = _readers(values[unit.output], model, readers, last)
        if reached is None:
            continue
        divided = ((unit.weight, unit.axis), *(((unit.bias, -1),) if unit.bias else ()))
        channels = _sizes(model, divided)[0]
        axis = -1 if last else 1
        tensors = (unit.output, *reached[1])
        found += _sound(model, Site(unit.output, tensors, axis, channels, divided, reached[0]))
    return found


def _norm_constants(node: ir.Node) -> Operands:
    """The constants that scale the node's output, if it is a normalisation's last step."""
    if node.op_type == "LayerNormalization" and node.attributes.get_int("axis", -1) == -1:
        values = [value for value in node.inputs[1:] if value is not None]
    elif node.op_type == "Mul":
        values = [v for v in node.inputs if v is not None and constant_of(v) is not None]
    else:
        return ()
    arrays = [constant_of(value) for value in values]
    if not arrays or any(a is None or a.ndim != 1 or a.size < 2 for a in arrays):
        return ()
    return tuple((str(value.name), 0) for value in values)


def _by_reading(units: Iterable[Unit]) -> dict[tuple[str, str], Unit]:
    """(result, input) -> the unit with weights that reads this input."""
    return {(unit.result, unit.inputs[0]): unit for unit in units if unit.weight is not None}


def _readers(
    value: ir.Value, model: ir.Model, units: Mapping[tuple[str, str], Unit], last: bool
) -> tuple[tuple[Unit, ...], tuple[str, ...]] | None:
    """The units that read a value or what homogeneous operators make of it, and those tensors.

    With ``last``, channels are along the last axis, else along axis 1 until pooled and flattened.
    """
    found, passed = list[Unit](), list[str]()
    waiting = [(value, False, last)]
    while waiting:
        here, pooled, flat = waiting.pop()
        if here.is_graph_output() or not here.uses():
            return None
        for node, index in here.uses():
            output = node.outputs[0]
            unit = units.get((str(output.name), str(here.name)))
            if node.graph is not model.graph or (unit is not None and index):
                return None
            if unit is not None and flat is (unit.kind is Kind.LINEAR):
                found.append(unit)
                continue
            flattens = pooled and node.op_type in _FLAT
            if unit is not None or not (flattens or node.op_type in (_FREE if flat else _POOLS)):
                return None
            passed.append(str(output.name))
            pooled = pooled or node.op_type == "GlobalAveragePool"
            waiting.append((output, pooled, flat or flattens))
    return tuple(found), tuple(passed)


def _sizes(model: ir.Model, operands: Operands) -> list[int]:
    constants = constants_of(model)
    arrays = [(constant_of(constants[name]), axis) for name, axis in operands]
    return [array.shape[axis] for array, axis in arrays if array is not None and array.ndim]


def _sound(model: ir.Model, site: Site) -> list[Site]:
    """The site itself if its channels fit everywhere and nobody else uses its constants."""
    constants = constants_of(model)
    names = [*dict(site.divided), *(str(unit.weight) for unit in site.readers)]
    alone = len(set(names)) == len(names)
    alone = alone and all(len(list(constants[name].uses())) == 1 for name in names)
    fits = all(size == site.channels for size in _sizes(model, site.divided))
    for unit in site.readers:
        weight = constant_of(constants[unit.weight])
        assert weight is not None
        if unit.kind is Kind.LINEAR:
            fits = fits and weight.shape[1 - unit.axis] == site.channels
        else:
            fits = fits and site.axis == 1 and not site.channels % weight.shape[1]
            fits = fits and not weight.shape[0] % (site.channels // weight.shape[1])
    return [site] if alone and fits else []


def by_input(weight: npt.NDArray[np.float32], unit: Unit, channels: int) -> npt.NDArray[np.float32]:
    """float32 [groups, outputs of a group, inputs of a group, taps] view of a reader's weight."""
    if unit.kind is Kind.LINEAR:
        rows = weight.T if unit.axis == 1 else weight
        return rows[None, :, :, None]
    groups = channels // weight.shape[1]
    return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)


def scaled(model: ir.Model, factors: Mapping[Site, Floats]) -> ir.Model:
    """A copy with every site's tensor divided by its float64 [channels] factors."""
    copy = model.clone()
    constants = constants_of(copy)
    for site, factor in factors.items():
        for name, axis in site.divided:
            array = _array(constants, name)
            shape = [-1 if i == axis % array.ndim else 1 for i in range(array.ndim)]
            _put(constants, name, array / factor.reshape(shape))
        for unit in site.readers:
            array = _array(constants, str(unit.weight))
            view = by_input(array, unit, site.channels)
            product = view * factor.reshape(view.shape[0], 1, view.shape[2], 1)
            flat = product[0, :, :, 0].T if unit.kind is Kind.LINEAR and unit.axis == 1 else product
            _put(constants, str(unit.weight), flat.reshape(array.shape))
    return copy


def _array(constants: Mapping[str | None, ir.Value], name: str) -> npt.NDArray[np.float32]:
    array = constant_of(constants[name])
    assert array is not None
    return array


def _put(
    constants: Mapping[str | None, ir.Value], name: str, array: npt.NDArray[np.floating]
) -> None:
    tensor = ir.tensor(np.ascontiguousarray(array, np.float32), name=name)
    value, producer = constants[name], constants[name].producer()
    if producer is None:
        value.const_value = tensor
    else:
        value.const_value = None
        producer.attributes.clear()  # it may have said the same as value_floats
        producer.attributes["value"] = ir.AttrTensor("value", tensor)


def rescaled(draft: Draft, factors: Mapping[Site, Floats]) -> Draft:
    """The draft of the scaled model: its tensors are observed anew, on the lessons."""
    shop, changed = draft.shop, {name: s for site, s in factors.items() for name in site.tensors}
    model = scaled(shop.model, factors)
    roots = sorted({root for root in shop.observed.values() if root in changed})
    new = observe(model, roots, draft.lessons, shop.target)
    means = dict(shop.seen.means)
    for mean in [mean for mean in means if mean.tensor in changed]:
        means[mean] = np.asarray(means[mean] / changed[mean.tensor], np.float32)
    histograms = {**shop.seen.histograms, **new.histograms}
    return draft.with_model(model, replace(shop.seen, histograms=histograms, means=means))


def channel_stats(
    model: ir.Model, sites: Sequence[Site], samples: Sequence[Arrays], target: Target
) -> dict[str, ChannelStats]:
    """Tensor -> what its channels hold over the samples."""
    names = {site.tensor: site.axis for site in sites}
    parts: dict[str, list[Floats]] = {name: [] for name in names}
    with target.open(parts_of(whole(model, list(names)))) as session:
        for sample in samples:
            for name, array in session(sample).items():
                rows = np.moveaxis(array, names[name], -1)
                axes = tuple(range(rows.ndim - 1))
                square = np.mean(np.square(rows), axis=axes, dtype=np.float64)
                alive = np.mean(rows != 0, axis=axes)
                parts[name].append(np.stack([rows.min(axes), rows.max(axes), square, alive]))
    found = {}
    for name, each in parts.items():
        low, high, square, alive = np.stack(each, 1)
        found[name] = ChannelStats(low.mean(0), high.mean(0), square.mean(0), alive.mean(0))
    return found
