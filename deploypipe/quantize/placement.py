"""Which units are quantized, hence which tensors are 8-bit.

Units with weights are wanted for their own sake.  The others follow where all their inputs are
8-bit already, so that no rounding is added only to feed them.  An Add or Concat of 8-bit and float
tensors whose output a weighted unit reads follows too: rounding the float input costs no more than
computing in float and rounding the output.  Outputs of the graph stay float.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from deploypipe.quantize.profile import Kind
from deploypipe.quantize.units import Found, Unit


@dataclass(frozen=True)
class Placement:
    """The units to quantize, the tensors that are then 8-bit, and why the rest is float.

    ``roots`` maps every 8-bit tensor to the one whose scale and zero point it shares; most map to
    themselves, those behind a Reshape, MaxPool and the like to what went in.
    """

    units: tuple[Unit, ...]
    roots: Mapping[str, str]
    kept_float: Mapping[str, str]


def place(
    model: ir.Model,
    found: Found,
    keep_float: Mapping[str, str] | None = None,
    follow: bool = True,
) -> Placement:
    """Drop units until every one that is left has all it needs.

    ``keep_float`` maps names of units to the reason why they are not to be quantized; without
    ``follow`` all others are, whatever their inputs are.  A Reshape or the like among floats is no
    loss and gets no reason.
    """
    kept = {**found.kept_float}
    asked = keep_float or {}
    kept.update({unit.name: asked[unit.name] for unit in found.units if unit.name in asked})
    units = [unit for unit in found.units if unit.name not in asked]
    outputs = {str(value.name) for value in model.graph.outputs}
    while True:
        refused = _refused(units, outputs, follow)
        if not refused:
            return Placement(tuple(units), roots_of(units), kept)
        moves = {unit.name for unit in units if unit.kind is Kind.MOVE}
        kept.update({name: why for name, why in refused.items() if name not in moves})
        units = [unit for unit in units if unit.name not in refused]


def _refused(units: list[Unit], outputs: set[str], follow: bool) -> dict[str, str]:
    wanted = {name for unit in units if unit.kind.has_weight for name in unit.inputs}
    given = {unit.output for unit in units if not unit.float_output}
    read = {name for unit in units for name in unit.inputs}
    eight_bit = wanted | given if follow else read | given
    reasons = {u.name: _reason(u, wanted, eight_bit, read, outputs) for u in units}
    return {name: reason for name, reason in reasons.items() if reason}


def _reason(
    unit: Unit, wanted: set[str], eight_bit: set[str], read: set[str], outputs: set[str]
) -> str:
    floats = [name for name in unit.inputs if name not in eight_bit]
    if floats and not unit.kind.has_weight and unit.kind is not Kind.RESIDUAL:
        joins = unit.kind in (Kind.BINARY, Kind.CONCAT) and len(floats) < len(unit.inputs)
        if not (joins and unit.output in wanted):
            return f"its input '{floats[0]}' is computed in float"
    if unit.output in outputs and not unit.float_output:
        return "its output is the model's output, which stays float"
    if unit.output in outputs and unit.output in read:
        return "its output is the model's output and feeds 8-bit nodes too"
    return ""


def roots_of(units: Sequence[Unit]) -> dict[str, str]:
    """8-bit tensor -> root, in the graph's order."""
    moved = {unit.output: unit.inputs[0] for unit in units if unit.kind is Kind.MOVE}
    roots: dict[str, str] = {}
    for unit in units:
        rounded = () if unit.float_output else (unit.output,)
        roots.update({name: _root(name, moved) for name in (*unit.inputs, *rounded)})
    return roots


def _root(name: str, moved: Mapping[str, str]) -> str:
    while name in moved:
        name = moved[name]
    return name
