"""Channels that are dead on purpose, and how many weights go with them.

Of every group of channels a share is killed: the weights that make them become zero, and their bias
zero or a constant.  The weights that could go are counted from that choice alone, never from what a
tool removed.  A constant that a padded sum reads cannot go to a bias, since the border sees zeros
instead: of each such tensor one constant channel stays for the others to be merged into.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from deploypipe.graph.channels.cells import Axis
from deploypipe.graph.channels.dataflow import Dataflow
from deploypipe.graph.channels.groups import Group, groups_of
from deploypipe.graph.channels.rule import Absorb
from deploypipe.graph.check import Run, random_feeds
from deploypipe.graph.constants import constant_of, is_constant
from deploypipe.graph.shapes import infer_shapes

SUMS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
ZEROS, CONSTANTS = "zeros", "constants"
LEAST = 4
"""Channels that a group needs to lose some."""

FLAT = 1e-6
"""A channel is constant if its values differ by less, relative to the largest."""


@dataclass(frozen=True)
class Killed:
    """What a model lost, counted in weights of convolutions and matrix products.

    ``removable`` lie in slices of dead channels; ``spare`` of them belong to the constant channels
    that have to stay, one for each tensor that needs one and the cheapest that can be found.
    ``allowance`` is what it comes to if every tensor keeps the dearest one, for itself alone.
    """

    groups: int
    channels: int
    spare_channels: int
    weights: int
    removable: int
    spare: int
    allowance: int

    @property
    def target(self) -> int:
        """Weights that can go with every output the same."""
        return self.removable - self.spare

    @property
    def bar(self) -> int:
        """Weights that have to go."""
        return self.removable - self.allowance


def kill(model: ir.Model, mode: str, share: float, seed: int, run: Run) -> Killed:
    """Kill a share of every group's channels in place, as zeros or as constants."""
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    infer_shapes(model)
    rng = np.random.default_rng(seed)
    flow = Dataflow(model.graph, uniform=True)
    groups = [group for group in groups_of(flow) if len(group) >= LEAST and _is_made(group)]
    chosen = [_draw(group, share, rng) for group in groups]
    dead = np.concatenate([*chosen, np.zeros(0, np.int64)])
    constant = np.setdiff1d(dead, _compared(flow)) if mode == CONSTANTS else dead[:0]
    for axis in _makers(flow):
        _silence(flow, axis, dead, constant, rng)
    tensors, cost = constant_tensors(model, flow, dead, run), costs(flow)
    stay, most = needed_spares(tensors, cost), dearest_spares(tensors, cost)
    removable = covered(flow, dead)
    return Killed(
        groups=len(groups),
        channels=len(dead),
        spare_channels=len(stay),
        weights=count_weights(model),
        removable=removable,
        spare=removable - covered(flow, np.setdiff1d(dead, list(stay))),
        allowance=removable - covered(flow, np.setdiff1d(dead, list(most))),
    )


def count_weights(model: ir.Model) -> int:
    """Elements of all constant operands of convolutions and matrix products."""
    return sum(_size(value) for value in _weights(model.graph))


def covered(flow: Dataflow, dead: np.ndarray) -> int:
    """Weights in the slices of dead classes, int64 [k]."""
    total = 0
    for value in _weights(flow.graph):
        gone = [_gone(flow, (value, axis), dead) for axis in range(len(value.shape or ()))]
        left = np.subtract(value.shape.numpy() if value.shape else (), gone)
        total += _size(value) - int(np.prod(left))
    return total


def _gone(flow: Dataflow, axis: Axis, dead: np.ndarray) -> int:
    """How many indices of a weight's axis are dead.

    The second axis of a grouped convolution counts the inputs of one group.
    """
    value, number = axis
    use = value.uses()[0]
    groups = use.node.attributes.get_int("group", 1) if use.node.op_type == "Conv" else 1
    if groups > 1 and number == 1:
        if value.shape is not None and value.shape[1] == 1:
            return 0
        axis = (use.node.inputs[0], 1)
    if axis not in flow.cells.first:
        return 0
    return int(_hits(flow, axis, dead).sum()) // (groups if number == 1 else 1)


def costs(flow: Dataflow) -> np.ndarray:
    """float64 [cells]: at a class' number, the weights in slices of that class."""
    cost = np.zeros(flow.cells.count)
    for value in _weights(flow.graph):
        for axis, size in enumerate(value.shape or ()):
            if (value, axis) in flow.cells.first and isinstance(size, int) and size:
                classes = flow.classes[flow.cells.ids((value, axis))]
                np.add.at(cost, classes, _size(value) / size)
    return cost


def needed_spares(tensors: Sequence[set[int]], cost: np.ndarray) -> set[int]:
    """Few classes, cheap ones, of which every tensor has one: the greedy hitting set."""
    left, taken = [tensor for tensor in tensors if tensor], set[int]()
    while left:
        votes: dict[int, int] = {}
        for number in (number for tensor in left for number in tensor):
            votes[number] = votes.get(number, 0) + 1
        best = max(votes, key=lambda number: (votes[number], -cost[number], -number))
        taken.add(best)
        left = [tensor for tensor in left if best not in tensor]
    return taken


def dearest_spares(tensors: Sequence[set[int]], cost: np.ndarray) -> set[int]:
    """For every tensor its dearest class that no other tensor has taken."""
    taken = set[int]()
    for tensor in tensors:
        free = tensor - taken
        if free:
            taken.add(max(free, key=lambda number: (cost[number], -number)))
    return taken


def constant_tensors(model: ir.Model, flow: Dataflow, dead: np.ndarray, run: Run) -> list[set[int]]:
    """For every tensor that is summed over, the dead classes that no bias can make good for.

    They are other than zero, and the sum is padded or they have met a border before: one of them can
    do for all.  Found by running the model, not by the analysis.
    """
    names = {value.name: value for value in _summed(model.graph)}
    probes = model.clone()
    given = {value.name for value in probes.graph.outputs}
    values = {out.name: out for node in probes.graph for out in node.outputs}
    probes.graph.outputs.extend(values[name] for name in names if name not in given)
    answers = [run(probes, random_feeds(model, seed)) for seed in (1, 2)]
    found = []
    for name, value in names.items():
        classes = flow.classes[flow.cells.ids((value, 1))]
        nonzero, flat = channels_of([answer[name] for answer in answers])
        kept = nonzero & (_meets_border(value) | ~flat) & np.isin(classes, dead)
        found.append(set(classes[kept].tolist()))
    return found


def channels_of(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Of arrays [n, c, ...], bool [c] each: some number is not zero; all numbers are the same."""
    rows = [np.moveaxis(array, 1, 0).reshape(array.shape[1], -1) for array in arrays]
    low = np.min([row.min(1) for row in rows], 0)
    high = np.max([row.max(1) for row in rows], 0)
    size = np.maximum(np.abs(low), np.abs(high))
    return size > 0, high - low <= FLAT * size


def _draw(group: Group, share: float, rng: np.random.Generator) -> np.ndarray:
    # Rounded as the tools that prune by a share do, so that the same number goes.
    count = min(max(1, round(len(group) * share)), len(group) - 1)
    return rng.choice(group.classes, count, replace=False)


def _compared(flow: Dataflow) -> np.ndarray:
    """Classes that a product of two computed tensors sums over: of queries and keys, say.

    A constant there is multiplied by what is alive, so only zeros can go.
    """
    sums = [
        sink.axis
        for rule, sink in flow.sinks
        if sink.absorb is Absorb.NOT and not any(map(is_constant, rule.node.inputs[:2]))
    ]
    return np.concatenate(
        [np.zeros(0, np.int64), *(flow.classes[flow.cells.ids(axis)] for axis in sums)]
    )


def _silence(
    flow: Dataflow, axis: Axis, dead: np.ndarray, constant: np.ndarray, rng: np.random.Generator
) -> None:
    value, number = axis
    array = constant_of(value)
    assert array is not None  # makers are constants
    hit = _hits(flow, axis, dead)
    if not hit.any():
        return
    changed = np.moveaxis(array.copy(), number, 0)
    changed[hit] = 0
    kept = _hits(flow, axis, constant)
    if kept.any() and array.ndim == 1 and _is_bias(value):
        count = int(kept.sum())
        changed[kept] = rng.uniform(0.2, 1.0, count) * rng.choice([1, 1, 1, -1], count)
    new = np.ascontiguousarray(np.moveaxis(changed, 0, number))
    value.const_value = ir.tensor(new, name=value.name)


def _hits(flow: Dataflow, axis: Axis, dead: np.ndarray) -> np.ndarray:
    return np.isin(flow.classes[flow.cells.ids(axis)], dead)


def _is_made(group: Group) -> bool:
    return any(len(value.shape or ()) > 1 and _makes(value, axis) for value, axis in group.axes)


def _makers(flow: Dataflow) -> list[Axis]:
    return [axis for axis in flow.cells.first if _makes(*axis)]


def _makes(value: ir.Value, axis: int) -> bool:
    """Whether an axis of a constant runs along what its reader puts out."""
    if constant_of(value) is None or not value.uses():
        return False
    use = value.uses()[0]
    node, place = use.node, use.idx
    if node.op_type == "Conv":
        return (place, axis) in ((1, 0), (2, 0))
    if node.op_type == "ConvTranspose":
        return (place, axis) in ((1, 1), (2, 0))
    if node.op_type == "Gemm":
        return place == 2 or (place, axis) == (1, 1 - node.attributes.get_int("transB", 0))
    if node.op_type == "MatMul":
        return (place, axis) == (1, 1)
    if node.op_type == "BatchNormalization":
        return place in (1, 2)
    return node.op_type in ("Add", "Sub", "Mul")


def _is_bias(value: ir.Value) -> bool:
    return any(
        use.node.op_type in ("Add", "Sub")
        or (use.node.op_type in (*SUMS, "BatchNormalization") and use.idx == 2)
        for use in value.uses()
    )


def _weights(graph: ir.Graph) -> list[ir.Value]:
    nodes = (node for node in graph if node.op_type in SUMS)
    operands = (value for node in nodes for value in node.inputs[:2] if value is not None)
    return [value for value in dict.fromkeys(operands) if constant_of(value) is not None]


def _size(value: ir.Value) -> int:
    array = constant_of(value)
    return 0 if array is None else int(array.size)


def _summed(graph: ir.Graph) -> list[ir.Value]:
    """The computed tensors whose channels some convolution sums over."""
    found = (node.inputs[0] for node in graph if _sums_pixels(node))
    return [value for value in dict.fromkeys(found) if value is not None and value.producer()]


def _sums_pixels(node: ir.Node) -> bool:
    weights = constant_of(node.inputs[1]) if node.op_type in ("Conv", "ConvTranspose") else None
    depthwise = node.op_type == "Conv" and weights is not None and weights.shape[1] == 1
    return weights is not None and not depthwise


def _meets_border(value: ir.Value) -> bool:
    """Whether a reader sums over padding, or puts out pixels that do not see all taps."""
    return any(_is_padded(use.node) for use in value.uses() if _sums_pixels(use.node))


def _is_padded(node: ir.Node) -> bool:
    attributes = node.attributes
    pads = attributes["pads"].as_ints() if "pads" in attributes else ()
    automatic = attributes["auto_pad"].as_string() if "auto_pad" in attributes else "NOTSET"
    return node.op_type == "ConvTranspose" or any(pads) or automatic.startswith("SAME")
