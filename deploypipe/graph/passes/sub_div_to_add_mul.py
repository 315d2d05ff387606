"""Subtract and divide by constants as runtimes have kernels for: with Add and Mul."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph import GraphPass, Outcome
from deploypipe.graph.constants import add_initializer, constant_of

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True)
class SubDivToAddMul(GraphPass):
    """``x - c`` becomes ``x + (-c)``, exactly; ``x / c`` becomes ``x * (1 / c)``, up to rounding.

    Of the four, only Add and Mul have 8-bit kernels.  A division in front of an Erf stays: it is
    part of a GELU that ONNX Runtime knows in this form only.
    """

    def call(self, model: ir.Model) -> Outcome:
        changes, refusals = [], []
        for node in [n for n in model.graph if n.op_type in ("Sub", "Div") and not n.domain]:
            constant = constant_of(node.inputs[1])
            if constant is None or constant.dtype not in _FLOATS:
                continue
            why = _objection(node, constant)
            if why:
                refusals.append(f"kept Div '{node.name}': {why}")
                continue
            changes.append(f"{node.op_type} '{node.name}' -> {_replace(node, constant)}")
        return Outcome(model, bool(changes), changes, refusals)


def _objection(node: ir.Node, constant: npt.NDArray[np.floating]) -> str | None:
    if node.op_type == "Sub":
        return None
    if any(use.node.op_type == "Erf" for use in node.outputs[0].uses()):
        return "it belongs to a GELU"
    with np.errstate(all="ignore"):
        inverse = (1 / constant.astype(np.float64)).astype(constant.dtype)
    normal = np.finfo(constant.dtype).tiny
    if not np.isfinite(inverse).all() or (np.abs(inverse) < normal).any():
        return "what it divides by has no normal inverse"
    return None


def _replace(node: ir.Node, constant: npt.NDArray[np.floating]) -> str:
    assert node.graph is not None
    if node.op_type == "Sub":
        op, other = "Add", -constant
    else:
        op, other = "Mul", (1 / constant.astype(np.float64)).astype(constant.dtype)
    operand = add_initializer(node.graph, f"{node.inputs[1].name}_{op.lower()}", other)  # type: ignore[union-attr]
    out = node.outputs[0]
    new = ir.node(op, [node.inputs[0], operand], outputs=[ir.Value(name=None)])
    new.name = node.name
    made = new.outputs[0]
    made.type, made.shape = out.type, out.shape
    ir.convenience.replace_nodes_and_values(node.graph, node, [node], [new], [out], [made])
    return op
