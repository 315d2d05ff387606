"""Channels that are dead on purpose, and how many weights go with them.

Of every group of channels a share is killed: the weights that make them become zero, and their bias
zero or a constant.  The weights that could go are counted from that choice alone, never from what a
tool removed.  A constant that a padded sum reads cannot go to a bias, since the border sees zeros
instead: of each such tensor one constant channel stays for the others to be merged into.

Where several sums read one weight, as those of a detector's head on each level of its pyramid, one
may be too few.  Channel i adds w[o, i] * c_i to output o, with a c_i that differs between levels;
whatever stays adds w'[o, r] * d_r, with one w' for all levels.  The sums of a level, as a matrix
[outputs, taps], are one for each level, and as many of these are independent as of the vectors c_i,
if w is no special one; those that r channels give span r dimensions at most.  So as many channels
stay as the vectors c_i are independent: at most one for each level, and one where all levels agree.
"""

from __future__ import annotations

from collections import Counter
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
NORMS = ("BatchNormalization", "InstanceNormalization")
ZEROS, CONSTANTS = "zeros", "constants"
LEAST = 4
"""Channels that a group needs to lose some."""

PLACES = 1000
"""Pixels of a tensor that are looked at to tell how many of its channels are independent."""

FLAT = 1e-6
"""A channel is constant if its values differ by less, relative to the largest."""


@dataclass(frozen=True)
class Killed:
    """What a model lost, counted in weights of convolutions and matrix products.

    ``removable`` lie in slices of dead channels; ``spare`` of them belong to the constant channels
    that have to stay, as many as every weight needs and the cheapest that can be found.
    ``allowance`` is what it comes to if every weight keeps the dearest ones, for itself alone.
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
    spares, cost = spares_of(model, flow, dead, run), costs(flow)
    stay, most = needed_spares(spares, cost), dearest_spares(spares, cost)
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


@dataclass(frozen=True)
class Spare:
    """``count`` of the ``classes`` have to stay."""

    classes: frozenset[int]
    count: int

    def lacks(self, taken: set[int]) -> bool:
        """Whether too few of them are taken."""
        return len(self.classes & taken) < self.count


def needed_spares(spares: Sequence[Spare], cost: np.ndarray) -> set[int]:
    """Few classes, cheap ones, of which everybody has enough: the greedy hitting set."""
    taken = set[int]()
    while left := [spare for spare in spares if spare.lacks(taken)]:
        votes = Counter(number for spare in left for number in spare.classes - taken)
        taken.add(max(votes, key=lambda number: (votes[number], -cost[number], -number)))
    return taken


def dearest_spares(spares: Sequence[Spare], cost: np.ndarray) -> set[int]:
    """For everybody its dearest classes that no other has taken."""
    taken = set[int]()
    for spare in spares:
        free = sorted(spare.classes - taken, key=lambda number: (-cost[number], number))
        taken.update(free[: spare.count])
    return taken


def spares_of(model: ir.Model, flow: Dataflow, dead: np.ndarray, run: Run) -> list[Spare]:
    """For every weight that sums over pixels, the dead classes that no bias can make good for.

    They are other than zero, and a sum is padded or they have met a border before.  Found by
    running the model, not by the analysis.
    """
    readers = _summed(model.graph)
    names = {str(value.name) for nodes in readers for value in _inputs(nodes)}
    probes = model.clone()
    given = {value.name for value in probes.graph.outputs}
    values = {out.name: out for node in probes.graph for out in node.outputs}
    probes.graph.outputs.extend(values[name] for name in sorted(names - given))
    answers = [run(probes, random_feeds(model, seed)) for seed in (1, 2)]
    found: dict[frozenset[int], int] = {}
    for nodes in readers:
        inputs = _inputs(nodes)
        classes = flow.classes[flow.cells.ids((inputs[0], 1))]
        arrays = [[answer[str(value.name)] for answer in answers] for value in inputs]
        seen = [channels_of(one) for one in arrays]
        nonzero, flat = np.any([one[0] for one in seen], 0), np.all([one[1] for one in seen], 0)
        kept = nonzero & (any(map(_is_padded, nodes)) | ~flat) & np.isin(classes, dead)
        if kept.any():
            rows = np.concatenate([_places(one, kept) for one in arrays], 1)
            key = frozenset(classes[kept].tolist())
            found[key] = max(found.get(key, 0), min(independent(rows), len(key)))
    return [Spare(classes, count) for classes, count in found.items()]


def independent(rows: np.ndarray) -> int:
    """How many rows of [channels, places] are independent, up to the rounding of float32."""
    rows = rows / np.abs(rows).max(1, keepdims=True)
    return int(np.linalg.matrix_rank(rows, tol=FLAT * np.sqrt(rows.size)))


def _places(arrays: Sequence[np.ndarray], kept: np.ndarray) -> np.ndarray:
    """Some channels of arrays [n, c, ...], float64 [kept, places]: one place if all are flat."""
    rows = np.concatenate([_by_channel(array)[kept] for array in arrays], 1).astype(np.float64)
    if channels_of([rows[None]])[1].all():
        return rows[:, :1]
    return rows[:, :: max(1, rows.shape[1] // PLACES)]


def _by_channel(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, 1, 0).reshape(array.shape[1], -1)


def channels_of(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Of arrays [n, c, ...], bool [c] each: some number is not zero; all numbers are the same."""
    rows = [_by_channel(array) for array in arrays]
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
    return [axis for axis in flow.cells.first if _makes(*axis) or _joins(*axis)]


def _joins(value: ir.Value, axis: int) -> bool:
    """Whether a constant stands beside computed channels, as what was computed before may."""
    if constant_of(value) is None:
        return False
    readers = [use.node for use in value.uses() if use.node.op_type == "Concat"]
    return any(
        node.attributes.get_int("axis", 1) % len(value.shape or ()) == axis for node in readers
    )


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
    if node.op_type in NORMS:
        return place in (1, 2)
    return node.op_type in ("Add", "Sub", "Mul")


def _is_bias(value: ir.Value) -> bool:
    return any(
        use.node.op_type in ("Add", "Sub") or (use.node.op_type in (*SUMS, *NORMS) and use.idx == 2)
        for use in value.uses()
    )


def _weights(graph: ir.Graph) -> list[ir.Value]:
    nodes = (node for node in graph if node.op_type in SUMS)
    operands = (value for node in nodes for value in node.inputs[:2] if value is not None)
    return [value for value in dict.fromkeys(operands) if constant_of(value) is not None]


def _size(value: ir.Value) -> int:
    array = constant_of(value)
    return 0 if array is None else int(array.size)


def _summed(graph: ir.Graph) -> list[list[ir.Node]]:
    """For every weight that sums over pixels, the nodes that sum computed tensors with it."""
    found: dict[ir.Value | None, list[ir.Node]] = {}
    for node in graph:
        if _sums_pixels(node) and node.inputs[0] is not None and node.inputs[0].producer():
            found.setdefault(node.inputs[1], []).append(node)
    return list(found.values())


def _inputs(nodes: Sequence[ir.Node]) -> list[ir.Value]:
    return [value for value in dict.fromkeys(node.inputs[0] for node in nodes) if value]


def _sums_pixels(node: ir.Node) -> bool:
    weights = constant_of(node.inputs[1]) if node.op_type in ("Conv", "ConvTranspose") else None
    depthwise = node.op_type == "Conv" and weights is not None and weights.shape[1] == 1
    return weights is not None and not depthwise


def _is_padded(node: ir.Node) -> bool:
    attributes = node.attributes
    pads = attributes["pads"].as_ints() if "pads" in attributes else ()
    automatic = attributes["auto_pad"].as_string() if "auto_pad" in attributes else "NOTSET"
    return node.op_type == "ConvTranspose" or any(pads) or automatic.startswith("SAME")
