"""Linear nodes whose input is rounded to 8 bits as it comes, by its own extremes.

    x -> DynamicQuantizeLinear -> MatMulInteger(w8) -> Cast -> Mul(scales) -> Add(b) -> y

These are nodes of ONNX itself; ONNX Runtime fuses them into one DynamicQuantizeMatMul, or where
several units read the same input, into a MatMulIntegerToFloat for each.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from deploypipe.quantize.linears import bias_of, end_of, input_of, matrix_of
from deploypipe.quantize.params import quantized_weight, weight_params
from deploypipe.quantize.profile import Profile
from deploypipe.quantize.rewriting import Rewriter
from deploypipe.quantize.units import Unit


def dynamically(rewriter: Rewriter, unit: Unit, profile: Profile) -> None:
    """The unit takes float, multiplies integers and gives float; weights have a scale a channel.

    Raises:
        UserError: the weight holds a NaN or an infinity.
    """
    weight, bias = matrix_of(rewriter, unit), bias_of(rewriter, unit)
    params = weight_params(weight, 1, profile.weight_limit, pair_limit=profile.pair_limit)
    source, end = input_of(rewriter, unit), end_of(rewriter, unit)
    rounded = _rounded(rewriter, source)
    scales = rewriter.constant("s", np.asarray(params.scales, np.float32))
    integers = rewriter.constant("w", quantized_weight(weight, params))
    zeros = rewriter.constant("z", np.zeros(len(params.scales), np.int8))
    scale = rewriter.node("Mul", [rounded.outputs[1], scales])
    product = rewriter.node(
        "MatMulInteger", [rounded.outputs[0], integers, rounded.outputs[2], zeros]
    )
    cast = rewriter.node("Cast", [product.outputs[0]], to=int(ir.DataType.FLOAT))
    result = rewriter.node("Mul", [cast.outputs[0], scale.outputs[0]])
    nodes = [scale, product, cast, result]
    if bias is not None:
        nodes.append(rewriter.node("Add", [result.outputs[0], rewriter.constant("b", bias)]))
    rewriter.replace(end, nodes)


def _rounded(rewriter: Rewriter, source: ir.Value) -> ir.Node:
    """The node that rounds ``source``: units that read the same share it."""
    for node, _ in source.uses():
        if node.op_type == "DynamicQuantizeLinear" and node.graph is rewriter.graph:
            return node
    made = rewriter.node("DynamicQuantizeLinear", [source], outputs=3)
    rewriter.behind(source, [made])
    return made
