"""Channel groups: the classes of cells that run through the same axes of the same tensors.

ResNet's stage, say, is one group: all its convolutions' outputs, the norms behind them, the sums
and the next inputs.  Pruning ranks a group's channels; dead-channel removal rounds their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Axis, Index
from deploypipe.graph.channels.dataflow import Dataflow
from deploypipe.graph.constants import is_constant


@dataclass(frozen=True)
class Group:
    """Channels that lie on the same axes.

    ``classes`` int64 [channels] numbers the cell classes; ``axes`` are all that they touch.
    """

    axes: tuple[Axis, ...]
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def name(self) -> str:
        """The first weight or tensor of the group, as a person would call it."""
        values = [value for value, _ in self.axes]
        weights = [v for v in values if is_constant(v) and len(v.shape or ()) > 1]
        return str((weights or values)[0].name)


@dataclass(frozen=True)
class ParameterSlices:
    """``index[c]`` are the positions along ``axis`` of the parameter that belong to channel c."""

    parameter: str
    axis: int
    index: np.ndarray


@dataclass(frozen=True)
class ChannelGroup:
    """A prunable group, told in names of parameters."""

    name: str
    channels: int
    slices: tuple[ParameterSlices, ...]


def groups_of(flow: Dataflow) -> list[Group]:
    """All groups without a pinned cell, largest tensors' order kept."""
    by_axes: dict[tuple[int, ...], list[int]] = {}
    axes = list(flow.cells.first)
    for label, members in _members(flow, axes):
        by_axes.setdefault(members, []).append(label)
    return [
        Group(tuple(axes[i] for i in members), np.array(labels))
        for members, labels in by_axes.items()
    ]


def _members(flow: Dataflow, axes: list[Axis]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """For every free class: its number and the numbers of the axes that it touches."""
    owner = np.repeat(np.arange(len(axes)), [flow.cells.size[axis] for axis in axes])
    free = np.flatnonzero(~flow.pinned)
    if not free.size:
        return
    pairs = np.unique(np.stack([flow.classes[free], owner[free]], 1), axis=0)
    labels, starts = np.unique(pairs[:, 0], return_index=True)
    for label, part in zip(labels, np.split(pairs[:, 1], starts[1:]), strict=True):
        yield int(label), tuple(int(i) for i in part)


def prunable_groups(model: ir.Model) -> list[ChannelGroup]:
    """The groups that have weights, in the names of the model's initializers.

    ``model`` needs inferred shapes and initializers named after the parameters.
    """
    flow = Dataflow(model.graph)
    found = []
    for group in groups_of(flow):
        slices = tuple(_slices(flow, group))
        if len(group) > 1 and any(_is_output_of_weights(axis) for axis in group.axes):
            found.append(ChannelGroup(group.name, len(group), slices))
    return found


def _is_output_of_weights(axis: Axis) -> bool:
    value, number = axis
    return is_constant(value) and len(value.shape or ()) > 1 and number in (0, 1)


def _slices(flow: Dataflow, group: Group) -> Iterator[ParameterSlices]:
    rows = {int(label): row for row, label in enumerate(group.classes)}
    for value, axis in group.axes:
        if not is_constant(value):
            continue
        labels = flow.classes[flow.cells.ids((value, axis))]
        places: Mapping[int, list[int]] = {row: [] for row in range(len(group))}
        for position, label in enumerate(labels):
            if int(label) in rows:
                places[rows[int(label)]].append(position)
        index: Index = np.array([places[row] for row in range(len(group))], np.int64)
        yield ParameterSlices(str(value.name), axis, index)
