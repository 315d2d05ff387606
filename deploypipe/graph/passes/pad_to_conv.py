"""Zeros that a Pad puts around a picture are the convolution's own padding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from deploypipe.graph import GraphPass, Outcome
from deploypipe.graph.constants import constant_of, input_of

_PLACES = "the zeros are not only around the picture"


@dataclass(frozen=True)
class PadToConv(GraphPass):
    """Fold a Pad with zeros into the ``pads`` of every convolution that reads it.

    ::

        x[N, C, H, W] -> Pad(0, 0, 1, 1, 0, 0, 1, 1) -> Conv(pads = 0, 0, 0, 0) -> y
        becomes   x -> Conv(pads = 1, 1, 1, 1) -> y

    Runtimes copy the picture for a Pad and need no copy for the other, and have no 8-bit Pad.
    """

    def call(self, model: ir.Model) -> Outcome:
        changes, refusals = [], []
        for pad in [node for node in model.graph if node.op_type == "Pad" and not node.domain]:
            readers = [use.node for use in pad.outputs[0].uses()]
            if not readers or any(node.op_type != "Conv" or node.domain for node in readers):
                continue
            why = _objection(pad, readers)
            if why:
                refusals.append(f"kept Pad '{pad.name}': {why}")
                continue
            changes.append(f"Pad '{pad.name}' is padding of {len(readers)} convolution(s)")
            _fold(pad, readers)
        return Outcome(model, bool(changes), changes, refusals)


def _objection(pad: ir.Node, readers: list[ir.Node]) -> str | None:
    """Why the convolutions cannot pad for themselves, None if they can."""
    if pad.outputs[0].is_graph_output():
        return "its result is an output of the graph"
    if pad.attributes.get_string("mode", "constant") != "constant":
        return "it repeats the picture instead of adding zeros"
    if not _adds_zero(pad):
        return "what it adds is not zero"
    amounts = _amounts(pad)
    if amounts is None:
        return "how much it adds is not constant"
    half = len(amounts) // 2
    if min(amounts) < 0:
        return "it takes away as well"
    if half < 3 or any(amounts[:2]) or any(amounts[half : half + 2]):
        return _PLACES
    for node in readers:
        if node.inputs[0] is not pad.outputs[0] or pad.outputs[0] in node.inputs[1:]:
            return f"'{node.name}' reads it as a weight"
        if node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            return f"'{node.name}' reckons its own padding from the size of the picture"
    return None


def _adds_zero(pad: ir.Node) -> bool:
    if "value" in pad.attributes:  # before opset 11
        return pad.attributes.get_float("value", 0.0) == 0
    value = input_of(pad, 2)
    if value is None:
        return True
    constant = constant_of(value)
    return constant is not None and not np.any(constant)


def _amounts(pad: ir.Node) -> list[int] | None:
    """All starts, then all ends; attribute before opset 11, from 18 on perhaps for some axes."""
    if "pads" in pad.attributes:
        return list(pad.attributes.get_ints("pads", ()))
    given = constant_of(input_of(pad, 1))
    if given is None:
        return None
    amounts = [int(amount) for amount in given.reshape(-1)]
    if input_of(pad, 3) is None:
        return amounts
    axes, data = constant_of(pad.inputs[3]), pad.inputs[0]
    rank = None if data is None or data.shape is None else len(data.shape)
    if axes is None or rank is None:
        return None
    spread = [0] * (2 * rank)
    for index, axis in enumerate(axes.reshape(-1)):
        spread[int(axis) % rank] = amounts[index]
        spread[rank + int(axis) % rank] = amounts[len(axes) + index]
    return spread


def _fold(pad: ir.Node, readers: list[ir.Node]) -> None:
    amounts = _amounts(pad)
    assert amounts is not None
    assert pad.graph is not None
    half = len(amounts) // 2
    added = amounts[2:half] + amounts[half + 2 :]
    for node in set(readers):
        old = list(node.attributes.get_ints("pads", [0] * len(added)))
        pads = [before + more for before, more in zip(old, added, strict=True)]
        node.attributes["pads"] = ir.AttrInt64s("pads", pads)
        node.attributes.pop("auto_pad", None)
        node.replace_input_with(0, pad.inputs[0])
    pad.graph.remove(pad, safe=True)
