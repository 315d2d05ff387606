"""Embedding tables in int8: rows are gathered as integers, and only those become float.

    Gather(table8, ids) -> Cast -> Mul(Gather(scales, ids)) -> rows

Each row has a scale of its own, so an unusual word does not coarsen the others.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from deploypipe.graph.constants import constant_of, is_constant
from deploypipe.quantize.params import quantized_weight, weight_params
from deploypipe.quantize.plan import checked_constant
from deploypipe.quantize.rewriting import Rewriter
from deploypipe.quantize.units import name_of

SMALLEST = 4096
"""A table of fewer numbers is not worth four nodes."""


def store_tables(model: ir.Model) -> tuple[ir.Model, list[str]]:
    """A copy whose embedding tables are int8, or the model itself; and what was done.

    Raises:
        UserError: a table holds a NaN or an infinity.
    """
    tables = {node.inputs[0]: _elements(node) for node in model.graph if _is_lookup(node)}
    if not tables:
        return model, []
    rewriter = Rewriter(model)
    for node in [node for node in rewriter.graph if _is_lookup(node)]:
        _store(rewriter, node)
    return rewriter.finish(), [
        f"{len(tables)} embedding table{'s' if len(tables) > 1 else ''} in int8 with a scale a row: "
        f"{3 * sum(tables.values()) / 1e6:.1f} MB less"
    ]


def _is_lookup(node: ir.Node) -> bool:
    """A Gather of computed rows from a table that is large and wide enough, and nobody else reads."""
    if node.op_type != "Gather" or node.attributes.get_int("axis", 0) != 0:
        return False
    table = node.inputs[0]
    if table is None or is_constant(node.inputs[1]) or not is_constant(table):
        return False
    readers = {use.node.op_type for use in table.uses()}
    if readers != {"Gather"} or table.dtype not in (ir.DataType.FLOAT, None):
        return False
    array = constant_of(table)
    assert array is not None
    wide = array.ndim == 2 and array.shape[1] >= 8 and array.size >= SMALLEST
    return wide and array.dtype == np.float32


def _elements(node: ir.Node) -> int:
    array = constant_of(node.inputs[0])
    return 0 if array is None else int(array.size)


def _store(rewriter: Rewriter, node: ir.Node) -> None:
    table, ids = node.inputs
    assert table is not None
    array = checked_constant(rewriter.constants, str(table.name), node.op_type, name_of(node))
    params = weight_params(array, 0, 127)
    scales = rewriter.constant("s", np.asarray(params.scales, np.float32)[:, None])
    integers = rewriter.constant("w", quantized_weight(array, params))
    rows = rewriter.node("Gather", [integers, ids])
    cast = rewriter.node("Cast", [rows.outputs[0]], to=int(ir.DataType.FLOAT))
    scale = rewriter.node("Gather", [scales, ids])
    back = rewriter.node("Mul", [cast.outputs[0], scale.outputs[0]])
    rewriter.replace(node.outputs[0], [rows, cast, scale, back])
