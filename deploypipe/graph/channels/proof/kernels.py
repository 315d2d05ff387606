"""Which ops have a float64 kernel of their own; onnx.reference runs all others.

An op is here because the reference is slow for it (loops in Python), rounds to float32, or is wrong.
A kernel takes the node and its inputs, constants in their stored dtype, and gives the first output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.proof.convolution import conv, conv_transpose
from deploypipe.graph.channels.proof.dense import gemm, matmul
from deploypipe.graph.channels.proof.erf import erf_of, gelu
from deploypipe.graph.channels.proof.norms import batch_normalization, group_normalization, lrn
from deploypipe.graph.channels.proof.pooling import average_pool, max_pool
from deploypipe.graph.channels.proof.resize import can_resize, resize
from deploypipe.graph.channels.proof.wide import widened

Kernel = Callable[..., Any]


def gather_elements(node: ir.Node, x: Any, index: Any) -> Any:
    """Along one axis, the element at the index of each place; others begin where ``x`` does."""
    axis = node.attributes.get_int("axis", 0) % x.ndim
    part = [slice(size) for size in index.shape]
    part[axis] = slice(None)
    return np.take_along_axis(widened(x[tuple(part)]), index, axis)


_KERNELS: dict[str, Kernel] = {
    "AveragePool": average_pool,
    "BatchNormalization": batch_normalization,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Erf": erf_of,
    "GatherElements": gather_elements,
    "Gelu": gelu,
    "Gemm": gemm,
    "GroupNormalization": group_normalization,
    "LRN": lrn,
    "MatMul": matmul,
    "MaxPool": max_pool,
    "Resize": resize,
}


def kernel_of(node: ir.Node) -> Kernel | None:
    """The node's own kernel; None where it asks for more than the kernel can."""
    if node.domain != "" or any(out.uses() or out.is_graph_output() for out in node.outputs[1:]):
        return None
    if node.op_type == "BatchNormalization" and node.attributes.get_int("training_mode", 0) == 1:
        return None
    if node.op_type == "Resize" and not (len(node.inputs) > 2 and can_resize(node)):
        return None
    return _KERNELS.get(node.op_type)
