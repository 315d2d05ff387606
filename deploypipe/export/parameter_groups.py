"""The channel groups of a torch module, found on its exported graph.

The export keeps parameter names and leaves norms alone, so that a group of cells leads straight
back to parameters.  Nothing of torch is traced for pruning itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes.common import (
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
    ShapeInferencePass,
)
from onnxscript.optimizer import fold_constants

from deploypipe.export.to_onnx import to_onnx
from deploypipe.graph.channels.groups import ChannelGroup, prunable_groups


def parameter_groups(
    module: torch.nn.Module,
    sample: Mapping[str, np.ndarray],
    dynamic: Mapping[str, tuple[int, ...]] | None = None,
) -> list[ChannelGroup]:
    """Prunable groups in the names of ``module``'s parameters."""
    model = to_onnx(module, sample, dynamic=dynamic, keep_parameters=True)
    names = {name for name, _ in module.named_parameters()}
    fold_constants(model, should_fold=lambda node: False if _turns_parameter(node, names) else None)
    RemoveUnusedNodesPass()(model)
    LiftConstantsToInitializersPass(lift_all_constants=True)(model)
    ShapeInferencePass()(model)
    return prunable_groups(model)


def _turns_parameter(node: ir.Node, names: set[str]) -> bool:
    """Folding a parameter's transpose would hide its name behind a new one."""
    return node.op_type in ("Transpose", "Reshape", "Squeeze", "Unsqueeze") and any(
        value is not None and value.name in names for value in node.inputs
    )
