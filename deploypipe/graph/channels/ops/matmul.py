"""MatMul, with constant weights on either side, or of two computed tensors.

    y[..., m, n] = sum over k of a[..., m, k] * b[..., k, n]

Where both are computed, term k vanishes if either side is zero: a dead dimension of the queries
takes the keys' with it.  Where ``a`` comes from a Softmax, its rows add up to one, so that a
constant column of ``b`` is a constant column of ``y``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Axis, Tie, axis_size, rank
from deploypipe.graph.channels.linear import Linear, set_array
from deploypipe.graph.channels.quantized import is_known
from deploypipe.graph.channels.rule import (
    LIVE,
    Absorb,
    Joint,
    Kept,
    Needs,
    Rule,
    Sink,
    Values,
    integer,
    opset_of,
)
from deploypipe.graph.constants import add_initializer, constant_of, free_name, is_constant


class MatMul(Linear):
    """A product with a constant matrix on the right, or of two tensors."""

    ops: ClassVar[frozenset[str]] = frozenset({"MatMul"})

    def __init__(self, node: ir.Node) -> None:
        super().__init__(node)
        self.constant = (
            is_known(node.inputs[1]) and rank(self.weights) == 2 and not is_constant(self.x)
        )
        self.product = Product(node)

    @property
    def bias(self) -> ir.Value | None:
        return None

    @property
    def in_axis(self) -> Axis:
        return self.x, (rank(self.x) or 1) - 1

    @property
    def out_axis(self) -> Axis:
        return self.y, (rank(self.y) or 1) - 1

    @property
    def borderless(self) -> bool:
        return True

    def refusal(self) -> str | None:
        return super().refusal() if self.constant else self.product.refusal()

    def as_matrix(self, array: np.ndarray) -> np.ndarray:
        return array.T[None, :, :, None]

    def ties(self) -> Iterable[Tie | None]:
        if not self.constant:
            yield from self.product.ties()
            return
        yield Tie.same(self.in_axis, (self.weights, 0))
        yield Tie.same((self.weights, 1), self.out_axis)
        for axis in range((rank(self.x) or 1) - 1):
            yield Tie.same((self.x, axis), (self.y, axis))

    def sinks(self) -> Iterable[Sink]:
        return super().sinks() if self.constant else self.product.sinks()

    def values(self, known: Values) -> None:
        if self.constant:
            super().values(known)
        else:
            self.product.values(known)

    def joint(self, known: Values) -> Joint | None:
        return None if self.constant else self.product.joint(known)

    def demand(self, needs: Needs, known: Values) -> None:
        if not self.constant:
            self.product.demand(needs, known)
            return
        super().demand(needs, known)
        for axis in range((rank(self.x) or 1) - 1):
            if axis_size(self.x, axis) == axis_size(self.y, axis):  # else it is pinned
                needs.add(self.x, axis, needs.of(self.y, axis))

    def add_to_bias(self, delta: np.ndarray, kept: Kept) -> None:
        """Into the Add that follows with a constant, or into a new one."""
        left = delta[kept.index(*self.out_axis)]
        graph = self.node.graph
        assert isinstance(graph, ir.Graph)
        if not left.any():
            return
        uses = list(self.y.uses())
        follower = uses[0].node if len(uses) == 1 and not self.y.is_graph_output() else None
        if follower is not None and follower.op_type == "Add" and follower.graph is graph:
            other = follower.inputs[1 - uses[0].idx]
            array = constant_of(other)
            alone = other is not None and len(other.uses()) == 1 and not other.is_graph_output()
            if other is not None and alone and array is not None and array.shape == delta.shape:
                set_array(other, (array.astype(np.float64) + delta).astype(array.dtype))
                return
        bias = add_initializer(graph, f"{self.y.name}.bias", left.astype(self._array().dtype))
        add = ir.node("Add", [self.y, bias], name=f"{self.node.name}.bias")
        out = add.outputs[0]
        out.name, out.type = self.y.name, self.y.type  # the sum is what the product was
        out.shape = self.y.shape if self.y.is_graph_output() else None
        self.y.name = free_name(graph, f"{self.y.name}.product")
        ir.convenience.replace_all_uses_with(self.y, out, replace_graph_outputs=True)
        add.replace_input_with(0, self.y)
        graph.insert_after(self.node, add)


class Product(Rule):
    """A product of two tensors, letter by letter: what MatMul and Einsum have in common.

    ``letters`` names the axes of both inputs and of the output; equal letters are equal indices,
    and a letter that the output lacks is summed over.
    """

    def __init__(self, node: ir.Node) -> None:
        super().__init__(node)
        self.letters = _letters(node)

    def refusal(self) -> str | None:
        return None if self.letters is not None else "is no product of two tensors"

    def ties(self) -> Iterable[Tie | None]:
        for a, b in self._shared():
            yield Tie.same(a, b)
        for side, out in self._kept():
            if not self._unknown(out):
                yield Tie.same(side, out)

    def sinks(self) -> Iterable[Sink]:
        for pair in (pair for pair in self._shared() if self._fits(*pair)):
            for axis in pair:
                size = axis_size(*axis) or 0
                yield Sink(axis, Absorb.NOT, np.ones(size, bool), np.zeros(size, np.int64))

    def values(self, known: Values) -> None:
        vanishes = any(
            self._fits(a, b) and ((known.of(*a) == 0) | (known.of(*b) == 0)).all()
            for a, b in self._shared()
        )
        for side, out in self._kept():
            if axis_size(*side) != axis_size(*out):
                continue
            vector = np.where(known.of(*side) == 0, 0.0, LIVE)
            if self._averages() and side[0] is self.node.inputs[1]:
                vector = known.of(*side)
            before = known.of(*out)
            known[out] = np.where(np.isnan(vector), before, vector)
        if vanishes:
            for axis in range(rank(self.y) or 0):
                known[self.y, axis] = np.zeros(axis_size(self.y, axis) or 0)

    def demand(self, needs: Needs, known: Values) -> None:
        for a, b in self._shared():
            if self._fits(a, b):
                zero, other = known.of(*a) == 0, known.of(*b) == 0
                # Of two zeros one must be kept in order: the first.
                needs.add(*a, zero | ~other)
                needs.add(*b, ~zero)
        for side, out in self._kept():
            wanted, size = needs.of(*out), axis_size(*side) or 0
            needs.add(*side, wanted if size == len(wanted) else np.full(size, wanted.any()))

    def joint(self, known: Values) -> Joint | None:
        """Averages of constants are those constants, for every batch and column."""
        right = self.node.inputs[1]
        given = known.jointly(right) if right is not None and self._averages() else None
        if given is None:
            return None
        pairs = [
            (side[1], out[1])
            for side, out in self._kept()
            if side[0] is right and self._fits(side, out)
        ]
        return given.moved(dict(pairs))

    def _averages(self) -> bool:
        """Whether rows of the first tensor add up to one."""
        given = self.x.producer()
        while given is not None and _keeps_rows(given):
            given = given.inputs[0].producer() if given.inputs[0] is not None else None
        if given is None or given.op_type != "Softmax" or self.node.op_type != "MatMul":
            return False
        last = (rank(given.outputs[0]) or 1) - 1
        return integer(given, "axis", -1 if opset_of(given) >= 13 else 1) in (-1, last)

    def _unknown(self, out: Axis) -> bool:
        """Whether one side's size is unknown, so that it could not be cut with the other's."""
        return any(axis_size(*side) is None for side, other in self._kept() if other == out)

    def _fits(self, a: Axis, b: Axis) -> bool:
        return axis_size(*a) is not None and axis_size(*a) == axis_size(*b)

    def _axes(self, place: int) -> dict[str, Axis]:
        assert self.letters is not None
        value = (*self.node.inputs, self.y)[place]
        assert value is not None
        return {letter: (value, axis) for axis, letter in enumerate(self.letters[place])}

    def _shared(self) -> Iterable[tuple[Axis, Axis]]:
        """The pairs that are summed over."""
        a, b, y = (self._axes(place) for place in range(3))
        return [(a[letter], b[letter]) for letter in a if letter in b and letter not in y]

    def _kept(self) -> Iterable[tuple[Axis, Axis]]:
        y = self._axes(2)
        sides = (self._axes(0), self._axes(1))
        return [(axis, y[letter]) for side in sides for letter, axis in side.items() if letter in y]


class Einsum(Product):
    """An Einsum of two tensors without repeated letters or dots."""

    ops: ClassVar[frozenset[str]] = frozenset({"Einsum"})


def _keeps_rows(node: ir.Node) -> bool:
    """Whether each row of the first input is a row of the output, as it was."""
    x, y = node.inputs[0] if node.inputs else None, node.outputs[0]
    if node.op_type in ("Identity", "Dropout"):
        return True
    if node.op_type != "Reshape" or x is None or not rank(x) or not rank(y):
        return False
    sizes = [axis_size(one, (rank(one) or 1) - 1) for one in (x, y)]
    return sizes[0] is not None and sizes[0] == sizes[1]


def _letters(node: ir.Node) -> tuple[str, str, str] | None:
    if len(node.inputs) != 2:
        return None
    ranks = [
        rank(value) if value is not None else None for value in (*node.inputs, node.outputs[0])
    ]
    if None in ranks:
        return None
    parts = _equation(node) if node.op_type == "Einsum" else _product(*ranks[:2])  # type: ignore[arg-type]
    if parts is None or [len(part) for part in parts] != ranks:
        return None
    summed = (set(parts[0]) ^ set(parts[1])) - set(parts[2])  # a letter of one side alone
    distinct = all(len(set(part)) == len(part) for part in parts)
    return parts if distinct and not summed else None


def _equation(node: ir.Node) -> tuple[str, str, str] | None:
    text = (node.attributes.get_string("equation", "") or "").replace(" ", "")
    left, arrow, right = text.partition("->")
    sides = left.split(",")
    if not arrow or len(sides) != 2 or "." in text:
        return None
    return sides[0], sides[1], right


def _product(left: int, right: int) -> tuple[str, str, str] | None:
    """``b`` and on for the batch axes, aligned from the right; ``m k``, ``k n``."""
    if left < 2 or right < 2:
        return None
    batch = "abcdefgh"[: max(left, right) - 2]
    return (
        batch[len(batch) - left + 2 :] + "mk",
        batch[len(batch) - right + 2 :] + "kn",
        batch + "mn",
    )
