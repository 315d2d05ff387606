"""What of a torch module can be pruned, found on its exported graph: channels and branches.

The export keeps parameter names and leaves norms alone, so that a group of cells leads straight
back to parameters.  Nothing of torch is traced for pruning itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveUnusedNodesPass
from onnxscript.optimizer import fold_constants

from deploypipe.export.residual_branches import Branch, branches_of
from deploypipe.export.to_onnx import to_onnx
from deploypipe.graph.channels.groups import ChannelGroup, ParameterSlices, prunable_groups
from deploypipe.graph.channels.rule import ints
from deploypipe.graph.constants import add_initializer, constant_of
from deploypipe.graph.shapes import infer_shapes


@dataclass(frozen=True)
class Structure:
    """What of a module can be pruned, in the names of its parameters."""

    groups: tuple[ChannelGroup, ...]
    branches: tuple[Branch, ...]


def structure_of(
    module: torch.nn.Module,
    sample: Mapping[str, np.ndarray],
    dynamic: Mapping[str, tuple[int, ...]] | None = None,
) -> Structure:
    """Prunable channel groups and residual branches."""
    model = to_onnx(module, sample, dynamic=dynamic, keep_parameters=True)
    names = {name for name, _ in module.named_parameters()}
    fold_constants(model, should_fold=lambda node: False if _turns_parameter(node, names) else None)
    turned = _turn(model.graph, names)
    RemoveUnusedNodesPass()(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    infer_shapes(model)
    groups = tuple(_in_parameters(group, turned) for group in prunable_groups(model))
    known_as = {new: name for new, (name, _) in turned.items()}
    return Structure(groups, tuple(branches_of(model, names, known_as)))


def _turn(graph: ir.Graph, names: Collection[str]) -> dict[str, tuple[str, Sequence[int]]]:
    """Make transposed parameters constants; their new name -> the parameter and its axes' order.

    A linear layer on more than two axes has its weight transposed.  A parameter that is used
    elsewhere as well stays as it is, for its uses to stay tied.
    """
    turned: dict[str, tuple[str, Sequence[int]]] = {}
    for node in [node for node in graph if node.op_type == "Transpose"]:
        value = node.inputs[0]
        array = constant_of(value) if value is not None and value.name in names else None
        if value is None or array is None or len(value.uses()) > 1:
            continue
        order = ints(node, "perm", list(reversed(range(array.ndim))))
        new = add_initializer(graph, f"{value.name}.turned", array.transpose(order))
        ir.convenience.replace_all_uses_with(node.outputs[0], new)
        turned[str(new.name)] = (str(value.name), order)
    return turned


def _in_parameters(
    group: ChannelGroup, turned: Mapping[str, tuple[str, Sequence[int]]]
) -> ChannelGroup:
    """The group with turned parameters called by their own names and axes again."""

    def own(part: ParameterSlices) -> ParameterSlices:
        if part.parameter not in turned:
            return part
        name, order = turned[part.parameter]
        return ParameterSlices(name, order[part.axis], part.index)

    name, _ = turned.get(group.name, (group.name, ()))
    return ChannelGroup(name, group.channels, tuple(own(part) for part in group.slices))


def _turns_parameter(node: ir.Node, names: set[str]) -> bool:
    """Folding a parameter's transpose would hide its name behind a new one."""
    return node.op_type in ("Transpose", "Reshape", "Squeeze", "Unsqueeze") and any(
        value is not None and value.name in names for value in node.inputs
    )
