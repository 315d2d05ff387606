"""Linear nodes: a Gemm, or a MatMul with the Add behind it, whose weight is a constant matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.quantize.plan import checked_constant
from deploypipe.quantize.profile import Kind, Profile
from deploypipe.quantize.rewriting import Rewriter
from deploypipe.quantize.units import Found, Unit, find_units, name_of

OPS = ("Gemm", "MatMul")


@dataclass(frozen=True)
class _Linears(Profile):
    """Nothing but linear nodes."""

    kinds: ClassVar[Mapping[str, Kind]] = dict.fromkeys(OPS, Kind.LINEAR)


def linears_of(model: ir.Model) -> Found:
    """Every linear unit of the main graph, and why other Gemm and MatMul are none.

    Raises:
        UserError: the model is half precision or already quantized.
    """
    found = find_units(model, _Linears())
    ours = {name_of(node) for node in model.graph.all_nodes() if node.op_type in OPS}
    return Found(
        tuple(unit for unit in found.units if unit.op in OPS),
        {name: why for name, why in found.kept_float.items() if name in ours},
    )


def matrix_of(rewriter: Rewriter, unit: Unit) -> npt.NDArray[np.float32]:
    """float32 [K, N]: the weight as a MatMul would have it.

    Raises:
        UserError: it holds a NaN or an infinity.
    """
    weight = checked_constant(rewriter.constants, str(unit.weight), unit.op, unit.name)
    return weight if unit.axis == 1 else weight.T


def bias_of(rewriter: Rewriter, unit: Unit) -> npt.NDArray[np.float32] | None:
    """float32 [N], or None."""
    if unit.bias is None:
        return None
    return checked_constant(rewriter.constants, unit.bias, unit.op, unit.name).reshape(-1)


def input_of(rewriter: Rewriter, unit: Unit) -> ir.Value:
    """What the unit reads now, which may be a tensor that was rounded for others too."""
    node = rewriter.values[unit.result].producer()
    assert node is not None
    source = node.inputs[0]
    assert source is not None
    return source


def end_of(rewriter: Rewriter, unit: Unit) -> ir.Value:
    """The unit's output with its bias added, before any activation."""
    value = rewriter.values[unit.result]
    node = value.producer()
    if unit.bias is None or node is None or node.op_type == "Gemm":
        return value
    (use,) = value.uses()
    return use.node.outputs[0]
