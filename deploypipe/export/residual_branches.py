"""Residual branches of an exported module: paths that leave a tensor and are added back to it.

    x ----------------------------+
    x -> Conv -> Norm -> ... -> Norm -> Add -> y

With zeros in the last layer the branch gives zeros, and the block hands x on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from deploypipe.graph.constants import input_of, is_constant

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_KEEP_ZEROS = frozenset(
    {"Dropout", "Flatten", "Identity", "LeakyRelu", "Relu", "Reshape", "Squeeze", "Transpose"}
)


@dataclass(frozen=True)
class Branch:
    """``parameters`` are all that the branch has, in the order in which data meet them; with zeros
    in all of them it gives zeros.  It is called after its first."""

    parameters: tuple[str, ...]

    @property
    def name(self) -> str:
        """That of its first parameter."""
        return self.parameters[0]


def branches_of(
    model: ir.Model, parameters: Collection[str], known_as: Mapping[str, str] | None = None
) -> list[Branch]:
    """All branches, in the graph's order; of two paths with layers the longer one.

    ``parameters`` are the names that count; ``known_as`` maps initializers of the graph to other
    names of them.
    """
    found = []
    for add in [node for node in model.graph if node.op_type == "Add" and not node.domain]:
        paths = [_path(value) for value in add.inputs]
        if None in paths or paths[0][0] is not paths[1][0]:  # type: ignore[index]
            continue
        nodes = max((path[1] for path in paths if path is not None), key=_layers)
        names = [_name(v, known_as or {}) for n in nodes for v in n.inputs if is_constant(v)]
        own = tuple(name for name in names if name in parameters)
        if _layers(nodes) and _can_be_zero(nodes, {*own}, known_as or {}):
            found.append(Branch(own))
    return found


def _path(value: ir.Value | None) -> tuple[ir.Value, list[ir.Node]] | None:
    """Where a single line of nodes that ends in ``value`` begins, and the nodes in order."""
    nodes: list[ir.Node] = []
    while value is not None and len(value.uses()) == 1 and not value.is_graph_output():
        node = value.producer()
        computed = [] if node is None else [v for v in node.inputs if v and not is_constant(v)]
        if node is None or len(computed) != 1:
            break
        nodes.insert(0, node)
        value = computed[0]
    return None if value is None else (value, nodes)


def _layers(nodes: list[ir.Node]) -> int:
    return sum(node.op_type in _WEIGHTED for node in nodes)


def _name(value: ir.Value | None, known_as: Mapping[str, str]) -> str:
    name = "" if value is None else str(value.name)
    return known_as.get(name, name)


def _can_be_zero(nodes: list[ir.Node], own: set[str], known_as: Mapping[str, str]) -> bool:
    """Whether zeros in all parameters make zeros at the end, exactly."""

    def is_own(node: ir.Node, index: int) -> bool:
        value = input_of(node, index)
        return value is None or _name(value, known_as) in own

    for node in reversed(nodes):
        if node.op_type in _KEEP_ZEROS:
            continue
        if node.op_type == "BatchNormalization":
            return is_own(node, 1) and is_own(node, 2)
        if node.op_type == "Add":  # a bias; what it is added to decides
            if not any(is_constant(v) and _name(v, known_as) in own for v in node.inputs):
                return False
            continue
        return node.op_type in _WEIGHTED and is_own(node, 1) and is_own(node, 2)
    return False
