"""Channels that are multiples of one another are read from one of them.

    y -> Conv(w) -> z    becomes    y -> Conv(w') -> z      where y_i = a * y_r, a > 0
    with w'[:, r] = w[:, r] + a * w[:, i] and w'[:, i] = 0

Rows of a linear layer, with the bias, that are positive multiples of another row make such
channels, and so they stay through every op that treats channels alone and scales with its input:
the copies that widening leaves behind, say (Chen et al. 2015, Net2Net, arXiv:1511.05641).  Ops that
do not scale, as Sigmoid, keep equal channels equal.  Where every reader is a linear layer, its
weights for channel i go over to channel r.  Nothing reads i then; drop-dead-channels removes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from deploypipe.graph import GraphPass, Outcome
from deploypipe.graph.channels.cells import Axis, Tie, axis_size, rank
from deploypipe.graph.channels.dataflow import Dataflow
from deploypipe.graph.channels.linear import Linear, set_array
from deploypipe.graph.channels.ops.matmul import MatMul
from deploypipe.graph.channels.ops.unary import Unary
from deploypipe.graph.channels.rule import Rule, ints
from deploypipe.graph.channels.sharing import part, unite
from deploypipe.graph.channels.shuffle import Shuffle
from deploypipe.graph.constants import constant_of, is_constant
from deploypipe.graph.shapes import infer_shapes

_SUMS = frozenset({"Add", "Max", "Mean", "Min", "Sub", "Sum"})
"""Of several tensors; they scale where all tensors do."""
_MOVES = frozenset({"Concat", "Gather", "Identity", "Slice", "Split"})
_SHAPES = frozenset({"Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})
_REDUCTIONS = frozenset({"ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"})
_RELUS = frozenset({"Abs", "Dropout", "LeakyRelu", "Neg", "PRelu", "Relu"})
_SCALING = _SUMS | _SHAPES | _POOLS | _REDUCTIONS | _RELUS


@dataclass(frozen=True)
class MergeCollinear(GraphPass):
    """Move the weights of channels that are positive multiples of another one.

    ``tolerance`` is how far, relatively, each weight may be from the multiple.
    """

    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < 1e-2:
            raise ValueError(f"tolerance must be in [0, 0.01), got {self.tolerance}")

    def call(self, model: ir.Model) -> Outcome:
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        infer_shapes(model)
        copies = part(model.graph)
        flow, moved = Dataflow(model.graph), Counter[str]()
        for _ in range(len(flow.rules) + 1):  # rows may become multiples by what is moved
            plan = _Plan(flow, _Relation(flow, self.tolerance))
            done = Counter({sink.weights.name or "": sink.move() for sink in plan.sinks})
            moved += done  # which drops what is zero
            if not any(done.values()):
                break
        unite(model.graph, copies)
        changes = [f"{name}: reads {count} channels from others" for name, count in moved.items()]
        return Outcome(model, bool(changes), changes, plan.refusals)


@dataclass
class _Relation:
    """Per axis a label int64 [size] and a factor float64 [size] for every slice.

    Slices with one label are positive multiples of one tensor, by their factors.
    """

    flow: Dataflow
    tolerance: float
    found: dict[Axis, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    carried: set[tuple[ir.Node, Axis]] = field(default_factory=set)
    _numbers: dict[Hashable, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node, rule in self.flow.rules.items():
            if isinstance(rule, Linear):
                self._start(rule)
            elif not isinstance(rule, Shuffle):
                self._carry(node, rule)

    def of(self, axis: Axis) -> tuple[np.ndarray, np.ndarray]:
        """Labels and factors; of an axis without multiples, new labels."""
        if axis not in self.found:
            array = constant_of(axis[0])
            if array is not None:
                rows = np.moveaxis(array, axis[1], 0).reshape(array.shape[axis[1]], -1)
                place, factors = multiples(rows, self.tolerance)
            else:
                place = np.arange(axis_size(*axis) or 0)
                factors = np.ones(len(place))
            labels = [self._number((axis, int(k))) for k in place]
            return np.array(labels, np.int64), factors
        return self.found[axis]

    def _number(self, key: Hashable) -> int:
        return self._numbers.setdefault(key, len(self._numbers))

    def _start(self, rule: Linear) -> None:
        """The multiples among the rows of a linear layer."""
        bias = rule.bias_values() if _is_plain(rule) else np.full(1, np.nan)
        if rule.y.is_graph_output() or np.isnan(bias).any():
            return
        if rule.out_axis not in self.flow.cells.first:
            return
        array = constant_of(rule.weights)
        assert array is not None  # it is plain
        matrix = rule.as_matrix(array)[0]
        rows = matrix.reshape(len(matrix), -1).astype(np.float64) * rule.scales[0]
        place, factors = multiples(np.column_stack([rows, bias]), self.tolerance)
        constant = ~rows.any(1)  # dead channels are not for this pass
        place[constant] = np.flatnonzero(constant)
        if len(np.unique(place)) < len(place):
            labels = [self._number((rule.node, int(k))) for k in place]
            self.found[rule.out_axis] = np.array(labels), np.where(constant, 1.0, factors)

    def _carry(self, node: ir.Node, rule: Rule) -> None:
        kind = _kind(rule)
        by_axis: dict[Axis, list[Tie]] = {}
        for tie in rule.all_ties:
            if tie.right[0] in node.outputs and tie.left[0] in node.inputs:
                by_axis.setdefault(tie.right, []).append(tie)
        for axis, ties in by_axis.items():
            known = any(tie.left in self.found for tie in ties)
            if kind is None or not known or axis not in self.flow.cells.first:
                continue
            terms = self._terms(ties, axis_size(*axis) or 0)
            stays = kind == "moves" and _is_moved(rule, axis)
            pairs = [self._combined(kind, stays, (node, axis), cell) for cell in terms]
            self.found[axis] = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
            self.carried |= {(node, tie.left) for tie in ties}

    def _terms(self, ties: list[Tie], size: int) -> list[list[_Term]]:
        """For every cell of an output what it is made of, in an order that is the same for all."""
        cells: list[list[_Term]] = [[] for _ in range(size)]
        for number, tie in enumerate(ties):
            labels, factors = self.of(tie.left)
            copies = Counter[int]()
            many = len(np.unique(tie.left_index)) < len(tie.left_index)
            view = many and tie.right[0].producer().op_type in ("Reshape", "Flatten")  # type: ignore[union-attr]
            for left, right in zip(tie.left_index.tolist(), tie.right_index.tolist(), strict=True):
                place = (number, copies[left] if view else 0)
                copies[left] += 1
                cells[right].append(_Term(place, int(labels[left]), float(factors[left])))
        return cells

    def _combined(
        self, kind: str, stays: bool, where: tuple[ir.Node, Axis], terms: list[_Term]
    ) -> tuple[int, float]:
        """Label and factor of a slice that is made of others."""
        if stays and len(terms) == 1:
            return terms[0].label, terms[0].factor or 1.0  # equal zeros are equal
        node = where[0]
        whole = node.op_type in _SUMS and len(terms) < len(node.inputs)  # one operand is stretched
        first = 1.0 if whole or kind == "equal" else _first(terms)
        slopes = terms[1:] if node.op_type == "PRelu" else []  # they do not scale with the input
        ratios = [term.factor / (1.0 if term in slopes else first) for term in terms]
        pairs = zip(terms, ratios, strict=True)
        parts = tuple((term.place, term.label, f"{ratio:.6e}") for term, ratio in pairs)
        return self._number((where, parts)), first


@dataclass(frozen=True)
class _Term:
    place: tuple[int, int]
    label: int
    factor: float


def _first(terms: list[_Term]) -> float:
    return next((term.factor for term in terms if term.factor), 1.0)


def _kind(rule: Rule) -> str | None:
    """How an op treats multiples; None where it mixes channels or is not known."""
    op = rule.node.op_type
    spread = op == "MaxPool" and any(step > 1 for step in ints(rule.node, "dilations", []))
    if rule.node.domain or spread:  # a window that sees padding alone is infinite
        return None
    if op in _MOVES:
        return "moves"
    if op in _SCALING:
        return "scales"
    return "equal" if isinstance(rule, Unary) or op == "Mul" else None


def _is_moved(rule: Rule, axis: Axis) -> bool:
    """Whether slices along an output's axis are slices of the input as they were."""
    if rule.node.op_type == "Identity":
        return True
    if rule.node.op_type == "Slice":
        return list(getattr(rule, "windows", {})) == [axis[1]]
    same_rank = rank(rule.x) == rank(axis[0])  # a Gather of one index drops the axis
    return same_rank and bool(getattr(rule, "axis", None) == axis[1])


def multiples(rows: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """For every row the first row of which it is a positive multiple, and the factor.

    Args:
        rows: numbers [rows, n].
        tolerance: how far, relatively, each number may be off.

    Returns:
        int64 [rows] and float64 [rows]; rows of zeros go together, with a factor of 0.
    """
    rows = rows.astype(np.float64)
    size = np.abs(rows).sum(1)
    place, factors = np.arange(len(rows)), np.ones(len(rows))
    empty = np.flatnonzero(size == 0)
    place[empty], factors[empty] = empty[:1].repeat(len(empty)), 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        shadow = rows @ np.random.default_rng(0).uniform(-1, 1, rows.shape[1]) / size
    order = np.argsort(shadow, kind="stable")
    order = order[size[order] > 0]
    near = 4 * tolerance + 1e-12
    start = 0
    for end in range(1, len(order) + 1):
        if end < len(order) and shadow[order[end]] - shadow[order[end - 1]] <= near:
            continue
        if end - start > 1:
            _gather(rows, size, np.sort(order[start:end]), tolerance, place, factors)
        start = end
    return place, factors


def _gather(
    rows: np.ndarray,
    size: np.ndarray,
    near: np.ndarray,
    tolerance: float,
    place: np.ndarray,
    factors: np.ndarray,
) -> None:
    """Compare the rows in ``near``, in order, and note the multiples."""
    left = near
    while len(left) > 1:
        first, others = left[0], left[1:]
        factor = size[others] / size[first]
        expected = factor[:, None] * rows[first]
        same = (np.abs(rows[others] - expected) <= tolerance * np.abs(expected)).all(1)
        place[others[same]], factors[others[same]] = first, factor[same]
        left = others[~same]


def _is_plain(rule: Rule | None) -> bool:
    """Whether a linear layer is one sum with weights of its own that may be edited."""
    if not isinstance(rule, Linear) or rule.groups != 1 or is_constant(rule.x):
        return False
    if isinstance(rule, MatMul) and not rule.constant:
        return False
    weights = rule.weights
    alone = len(weights.uses()) == 1 and not weights.is_graph_output()
    return is_constant(weights) and weights.is_initializer() and alone


@dataclass
class _Sink:
    """A linear layer, and which inputs are read ``into`` which: int64 pairs and their factors."""

    rule: Linear
    moves: list[tuple[int, int, float]] = field(default_factory=list)

    @property
    def weights(self) -> ir.Value:
        return self.rule.weights

    def move(self) -> int:
        """Carry it out; how many channels are not read any more."""
        array = constant_of(self.weights)
        if not self.moves or array is None:
            return 0
        new = array.astype(np.float64, "C")
        matrix = self.rule.as_matrix(new)[0]
        for index, into, factor in self.moves:
            matrix[:, into] += factor * matrix[:, index]
            matrix[:, index] = 0
        with np.errstate(over="ignore"):
            rounded = new.astype(array.dtype)
        if not np.isfinite(rounded.astype(np.float64)).all():
            return 0
        set_array(self.weights, rounded)
        return len(self.moves)


@dataclass
class _Plan:
    """Which classes of cells stay, and why; the others are read from one that stays."""

    flow: Dataflow
    relation: _Relation
    stays: dict[int, str] = field(default_factory=dict)

    @cached_property
    def sinks(self) -> list[_Sink]:
        """All linear layers that read multiples."""
        if not self.relation.found:
            return []
        self._keep_pinned()
        groups = [(rule, group) for rule in self._readers() for group in self._groups(rule)]
        for alone in (True, False):  # first those that have no choice
            for rule, group in groups:
                classes = sorted(set(group.values()))
                if (len(classes) == 1) is alone and not any(c in self.stays for c in classes):
                    self.stays[classes[0]] = f"{_told(rule.node)} reads them apart"
        found: dict[Linear, _Sink] = {}
        for rule, group in groups:
            sink = found.setdefault(rule, _Sink(rule))
            sink.moves += self._moves(rule, group)
        return list(found.values())

    @property
    def refusals(self) -> list[str]:
        """For every layer the multiples that stay."""
        lines = []
        for node, rule in self.flow.rules.items():
            if not isinstance(rule, Linear) or rule.out_axis not in self.relation.found:
                continue
            labels = self.relation.found[rule.out_axis][0].tolist()
            alike: dict[int, dict[int, str]] = {}
            for label, one in zip(labels, self._classes(rule.out_axis), strict=True):
                if one in self.stays:
                    alike.setdefault(label, {})[one] = self.stays[one]
            count = sum(len(whys) - 1 for whys in alike.values())
            if count:
                why = next(w for whys in alike.values() if len(whys) > 1 for w in whys.values())
                lines.append(f"{_told(node)}: {count} channels like others stay: {why}")
        return lines

    def _classes(self, axis: Axis) -> list[int]:
        return [int(one) for one in self.flow.classes[self.flow.cells.ids(axis)]]

    def _readers(self) -> list[Linear]:
        rules = self.flow.rules.values()
        return [r for r in rules if isinstance(r, Linear) and self._reads(r.node, r.in_axis)]

    def _reads(self, node: ir.Node, axis: Axis) -> bool:
        rule = self.flow.rules.get(node)
        plain = isinstance(rule, Linear) and _is_plain(rule) and rule.in_axis == axis
        return plain and axis in self.relation.found

    def _keep_pinned(self) -> None:
        """What is pinned, or read by something that is neither linear nor passes it on."""
        for axis, reason in self.flow.cells.pins.items():
            self._keep(axis, reason)
        for axis in self.relation.found:
            for use in axis[0].uses():
                summed = use.idx == 0 and self._reads(use.node, axis)
                if not summed and (use.node, axis) not in self.relation.carried:
                    self._keep(axis, f"{_told(use.node)} needs each of them")

    def _keep(self, axis: Axis, reason: str) -> None:
        for one in self._classes(axis):
            self.stays.setdefault(one, reason)

    def _groups(self, rule: Linear) -> Iterator[dict[int, int]]:
        """The inputs that are multiples of one another and have weights: place -> class."""
        array = constant_of(rule.weights)
        assert array is not None  # it is plain
        read = (rule.as_matrix(array)[0] != 0).any((0, 2))
        labels, classes = self.relation.found[rule.in_axis][0], self._classes(rule.in_axis)
        groups: dict[int, dict[int, int]] = {}
        for place in np.flatnonzero(read).tolist():
            groups.setdefault(int(labels[place]), {})[place] = classes[place]
        yield from groups.values()

    def _moves(self, rule: Linear, group: dict[int, int]) -> Iterator[tuple[int, int, float]]:
        factors = self.relation.found[rule.in_axis][1]
        into = next(place for place, one in group.items() if one in self.stays)
        for place, one in group.items():
            if one not in self.stays:
                yield place, into, float(factors[place] / factors[into])


def _told(node: ir.Node) -> str:
    return f"{node.op_type} '{node.name or node.outputs[0].name}'"
