"""GELU by what it computes, however it is written.

    0.5 * x * (1 + erf(x / sqrt(2)))                             Hendrycks & Gimpel 2016
    0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))    its approximation

(arXiv:1606.08415).  Exporters write five to nine nodes in a dozen orders, and a runtime knows two or
three of them.  So nothing is matched here: around an Erf or a Tanh, what depends on one tensor and on
scalar constants alone is computed on a grid in float64 and compared with the two functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph import GraphPass, Outcome
from deploypipe.graph.constants import add_initializer, constant_of, free_name
from deploypipe.graph.shapes import shaped_values

Doubles = npt.NDArray[np.float64]

GRID = np.linspace(-8, 8, 161)
TOLERANCE = 1e-6
"""What float32 constants leave; the two functions are 5e-4 apart."""

REACH = 12
"""Nodes that the longest way of writing it has, and some more."""

_erf = np.vectorize(math.erf, otypes=[np.float64])
_FUNCTIONS: Mapping[str, Callable[..., Doubles]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Sqrt": np.sqrt,
    "Neg": np.negative,
    "Erf": _erf,
    "Tanh": np.tanh,
}


def _gelu(x: Doubles) -> Doubles:
    return np.asarray(0.5 * x * (1 + _erf(x / math.sqrt(2))))


def _gelu_tanh(x: Doubles) -> Doubles:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


@dataclass(frozen=True)
class FuseGelu(GraphPass):
    """Write every GELU as the operator Gelu, which opset 20 brought.

    ::

        x -> Mul(1 / sqrt 2) -> Erf -> Mul(0.5) -> Add(0.5) -> Mul(x) -> y
        becomes   x -> Gelu -> y
        before opset 20   y = Mul(Mul(x, 0.5), Add(Erf(Div(x, sqrt 2)), 1))

    The last form is one that ONNX Runtime turns into its own operator.
    """

    def call(self, model: ir.Model) -> Outcome:
        opset = model.graph.opset_imports.get("", 0)
        changes, refusals, ranks = [], [], _Ranks(model)
        for heart in [n for n in model.graph if n.op_type in ("Erf", "Tanh") and not n.domain]:
            found = _found(heart)
            if found is None or not _keeps_rank(found, ranks):
                continue
            if opset < 20 and heart.op_type == "Tanh":
                refusals.append(f"kept the GELU around '{heart.name}': Gelu came with opset 20")
            elif opset >= 20 or not _is_known(heart, found):
                nodes = "Gelu" if opset >= 20 else "the form that is fused"
                changes.append(f"{len(found.nodes)} nodes around '{heart.name}' are {nodes}")
                _replace(heart, found, opset)
        return Outcome(model, bool(changes), changes, refusals)


@dataclass(frozen=True)
class _Found:
    """``nodes`` compute ``result`` from ``source`` and constants alone, and nobody looks inside."""

    source: ir.Value
    result: ir.Value
    nodes: tuple[ir.Node, ...]


def _found(heart: ir.Node) -> _Found | None:
    wanted = _gelu if heart.op_type == "Erf" else _gelu_tanh
    for result in _after(heart):
        for source in _before(heart):
            nodes: dict[ir.Node, None] = {}
            values = _evaluate(result, {source: GRID}, nodes)
            if values is None or np.shape(values) != GRID.shape:
                continue
            if np.allclose(values, wanted(GRID), rtol=0, atol=TOLERANCE):
                closed = all(_stays_inside(node, result, nodes) for node in nodes)
                return _Found(source, result, tuple(nodes)) if closed else None
    return None


class _Ranks:
    """Of the model's tensors; inferred when the first is asked for."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model

    @cached_property
    def _shaped(self) -> dict[str | None, ir.Value]:
        return shaped_values(self._model)

    def of(self, value: ir.Value) -> int | None:
        """None where it is not known."""
        shape = self._shaped.get(value.name, value).shape
        return None if shape is None else len(shape)


def _keeps_rank(found: _Found, ranks: _Ranks) -> bool:
    """Whether the constants, of one element each, have no more axes than the source: else the
    result has axes that a Gelu would not give."""
    read = [value for node in found.nodes for value in node.inputs]
    arrays = [array for array in map(constant_of, read) if array is not None]
    most = max((array.ndim for array in arrays), default=0)
    if not most:
        return True
    rank = ranks.of(found.source)
    return rank is not None and most <= rank


def _after(heart: ir.Node) -> Iterator[ir.Value]:
    """What the node's result becomes, step by step while one node alone reads it."""
    value = heart.outputs[0]
    for _ in range(REACH):
        uses = list(value.uses())
        if len(uses) != 1 or value.is_graph_output():
            return
        reader = uses[0].node
        if reader.graph is not heart.graph or not _is_simple(reader):
            return
        value = reader.outputs[0]
        yield value


def _before(heart: ir.Node) -> Iterator[ir.Value]:
    """Tensors that the node's operand comes from, the nearest first."""
    waiting, met = [value for value in heart.inputs if value is not None], 0
    while waiting and met < REACH:
        value = waiting.pop(0)
        met += 1
        if constant_of(value) is not None:
            continue
        yield value
        producer = value.producer()
        if producer is not None and producer.graph is heart.graph and _is_simple(producer):
            waiting += [one for one in producer.inputs if one is not None and one not in waiting]


def _is_simple(node: ir.Node) -> bool:
    return node.op_type in _FUNCTIONS and not node.domain


def _evaluate(
    value: ir.Value, known: dict[ir.Value, Doubles], nodes: dict[ir.Node, None]
) -> Doubles | None:
    """float64 on the grid; None if it depends on more than scalars and what is known."""
    if value in known:
        return known[value]
    constant = constant_of(value)
    if constant is not None:
        return constant.reshape(()).astype(np.float64) if constant.size == 1 else None
    node = value.producer()
    if node is None or not _is_simple(node) or len(nodes) > REACH:
        return None
    given = [None if one is None else _evaluate(one, known, nodes) for one in node.inputs]
    if any(one is None for one in given):
        return None
    with np.errstate(all="ignore"):
        known[value] = np.asarray(_FUNCTIONS[node.op_type](*given), np.float64)
    nodes[node] = None
    return known[value]


def _stays_inside(node: ir.Node, result: ir.Value, nodes: dict[ir.Node, None]) -> bool:
    out = node.outputs[0]
    return out is result or (
        not out.is_graph_output() and all(use.node in nodes for use in out.uses())
    )


def _is_known(heart: ir.Node, found: _Found) -> bool:
    """Whether ONNX Runtime 1.31 fuses it as it stands: x / sqrt(2), and the sum times x."""
    inner = heart.inputs[0].producer() if heart.inputs[0] is not None else None
    if inner is None or inner.op_type != "Div" or len(found.nodes) > 5:
        return False
    (add,) = (use.node for use in heart.outputs[0].uses())
    (times,) = (use.node for use in add.outputs[0].uses())
    return add.op_type == "Add" and all(constant_of(value) is None for value in times.inputs)


def _replace(heart: ir.Node, found: _Found, opset: int) -> None:
    graph = heart.graph
    assert graph is not None
    if opset >= 20:
        tanh = [ir.AttrString("approximate", "tanh")] if heart.op_type == "Tanh" else []
        new = [ir.Node("", "Gelu", [found.source], tanh, name=heart.name)]
    else:
        new = _chain(graph, heart, found.source)
    last = new[-1].outputs[0]
    last.type, last.shape = found.result.type, found.result.shape
    maker = found.result.producer()
    assert maker is not None
    ir.convenience.replace_nodes_and_values(
        graph, maker, list(found.nodes), new, [found.result], [last]
    )


def _chain(graph: ir.Graph, heart: ir.Node, source: ir.Value) -> list[ir.Node]:
    kind = np.float32 if source.dtype is None else source.dtype.numpy()

    def scalar(name: str, number: float) -> ir.Value:
        return add_initializer(graph, f"gelu_{name}", np.asarray(number, kind))

    def node(op: str, *inputs: ir.Value) -> ir.Node:
        output = ir.Value(name=free_name(graph, f"{heart.name}_{op.lower()}"))
        return ir.node(op, list(inputs), outputs=[output])

    divided = node("Div", source, scalar("root", math.sqrt(2)))
    erf = node("Erf", divided.outputs[0])
    plus = node("Add", erf.outputs[0], scalar("one", 1))
    half = node("Mul", source, scalar("half", 0.5))
    product = ir.node(
        "Mul",
        [half.outputs[0], plus.outputs[0]],
        outputs=[ir.Value(name=free_name(graph, f"{heart.name}_gelu"))],
    )
    return [divided, erf, plus, half, product]
