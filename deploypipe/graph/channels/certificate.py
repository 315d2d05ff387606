"""What was removed and why, as plain data that another program can check against the two graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Axis, Index
from deploypipe.graph.channels.dataflow import Dataflow
from deploypipe.graph.channels.quantized import is_dequantized
from deploypipe.graph.channels.removal import Merge, Removal
from deploypipe.graph.channels.rule import Joint, Kept
from deploypipe.graph.channels.sharing import Copies
from deploypipe.graph.channels.shuffle import Shuffle
from deploypipe.graph.constants import is_constant

Json = dict[str, Any]

FORMAT, VERSION = "deploypipe-channels", 1


def certificate(flow: Dataflow, removal: Removal, shared: Copies) -> Json:
    """Every removed cell with its reason, before anything is cut.

    ``shared`` are initializers whose readers lost different cells, perhaps: neither they nor their
    copies carry an entry, for which of them keeps the name is nobody's business.
    """
    hidden = {*shared, *(copy for copies in shared.values() for copy in copies)}
    owners = _owners(flow, removal)
    return {
        "format": FORMAT,
        "version": VERSION,
        "removed": [
            _entry(flow, axis, index, owners)
            for axis, index in removal.indices.items()
            if axis[0] not in hidden
        ],
        "unread": [
            {"tensor": value.name, "axis": axis, "index": index.tolist()}
            for (value, axis), index in removal.unread.items()
        ],
        "constants": _constants(flow, removal),
        "compensations": [one for merge in removal.merges for one in _compensations(merge)],
        "replaced": _replaced(flow, removal),
    }


def _constants(flow: Dataflow, removal: Removal) -> list[Json]:
    """The constant cells that stay, or go with their whole tensor: others follow from them."""
    found = []
    for value, axis in flow.activations:
        numbers = flow.values.of(value, axis)
        known = np.setdiff1d(
            np.flatnonzero(~np.isnan(numbers)), removal.indices.get((value, axis), [])
        )
        if known.size:
            told = {"index": known.tolist(), "values": numbers[known].tolist()}
            found.append({"tensor": value.name, "axis": axis, **told})
    return found


def _owners(flow: Dataflow, removal: Removal) -> dict[int, list[Any]]:
    """Class number -> one computed cell of it."""
    found: dict[int, list[Any]] = {}
    for (value, axis), index in removal.indices.items():
        if not _is_weight(value):
            for place, label in zip(
                index, flow.classes[flow.cells.ids((value, axis))[index]], strict=True
            ):
                found.setdefault(int(label), [value.name, axis, int(place)])
    return found


def _entry(flow: Dataflow, axis: Axis, index: Index, owners: Mapping[int, list[Any]]) -> Json:
    value, number = axis
    weight = _is_weight(value)
    cells = [
        _cut(flow, axis, int(place), owners) if weight else _cell(flow, axis, int(place), index)
        for place in index
    ]
    kind = "weight" if weight else "activation"
    size = flow.cells.size[axis]
    return {"tensor": value.name, "axis": number, "size": size, "kind": kind, "cells": cells}


def _is_weight(value: ir.Value) -> bool:
    return is_constant(value) or is_dequantized(value)


def _cut(flow: Dataflow, axis: Axis, place: int, owners: Mapping[int, list[Any]]) -> Json:
    owner = owners[int(flow.classes[flow.cells.ids(axis)[place]])]
    because = f"belongs to {owner[0]}"
    return {"index": place, "is": "cut", "value": None, "because": because, "from": [owner]}


def _cell(flow: Dataflow, axis: Axis, place: int, gone: Index) -> Json:
    value, number = axis
    numbers = flow.number[flow.cells.ids(axis)]
    joint = flow.values.joint.get(value)
    if value in flow.values.patterns and numbers[place] != 0 and not np.isnan(numbers[place]):
        return _multiple(value, numbers, place, gone)
    if not np.isnan(numbers[place]):
        return _constant(flow, axis, place, float(numbers[place]))
    if joint is not None and number in joint.axes and joint.whole(number)[place]:
        return _fixed(joint, number, place)
    readers = [f"{use.node.op_type} '{use.node.name}'" for use in value.uses()]
    because = f"nothing needs it: {', '.join(readers)} ignore it or make nothing needed of it"
    return {"index": place, "is": "unread", "value": None, "because": because, "from": []}


def _constant(flow: Dataflow, axis: Axis, place: int, constant: float) -> Json:
    node = axis[0].producer()
    assert node is not None  # graph inputs never go
    origin = _origin(flow, node, axis, place)
    because = f"{node.op_type} '{node.name}' of {'constants' if origin else 'no live weight'}"
    state = "zero" if constant == 0 else "constant"
    return {"index": place, "is": state, "value": constant, "because": because, "from": origin}


def _multiple(value: ir.Value, numbers: np.ndarray, place: int, gone: Index) -> Json:
    """Of a channel that stays; there is one, into which the others were merged."""
    factors = np.abs(np.nan_to_num(numbers))
    factors[gone] = 0
    other = int(np.argmax(factors))
    ratio = float(numbers[place] / numbers[other])
    because = f"'{value.name}' is one pattern, which no input changes"
    told = {"is": "multiple", "value": ratio, "of": other, "because": because, "from": []}
    return {"index": place, **told}


def _fixed(joint: Joint, axis: int, place: int) -> Json:
    others = [one for one in joint.axes if one != axis]
    array = joint.array.take(place, joint.axes.index(axis))
    because = "no input changes it, though it is not one number"
    told = {"is": "fixed", "value": array.tolist(), "axes": others, "because": because}
    return {"index": place, **told, "from": []}


def _origin(flow: Dataflow, node: ir.Node, axis: Axis, place: int) -> list[list[Any]]:
    """The input cells that a constant comes from, where the node moves or maps cells."""
    rule = flow.rules[node]
    return [
        [tie.left[0].name, tie.left[1], int(index)]
        for tie in rule.all_ties
        if tie.right == axis and not _is_weight(tie.left[0])
        for index in tie.left_index[tie.right_index == place]
        if not np.isnan(flow.values.of(*tie.left)[index])
    ]


def _compensations(merge: Merge) -> list[Json]:
    """One for every channel that others were merged into, or for the bias."""
    found, constants = [], merge.constants
    for place in np.unique(constants.into):
        mine = constants.into == place
        told = {
            "removed": constants.index[mine].tolist(),
            "values": constants.values[mine].tolist(),
        }
        how = {"how": "bias", "into": None} if place < 0 else {"how": "merge", "into": int(place)}
        names = {"tensor": merge.rule.y.name, "input": merge.axis[0].name, "axis": merge.axis[1]}
        found.append({**names, **told, **how})
    return found


def _replaced(flow: Dataflow, removal: Removal) -> list[Json]:
    kept = Kept(removal.indices)
    return [
        {"tensor": rule.y.name, "by": "one Gather"}
        for rule in flow.rules.values()
        if isinstance(rule, Shuffle) and kept.touches(rule)
    ]
