"""Embedding tables in int8: rows are gathered as integers, and only those become float.

    Gather(table8, ids) -> Cast -> Mul(Gather(scales, ids)) -> rows

Each row has a scale of its own, so an unusual word does not coarsen the others.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    rewriter = Rewriter(model)
    saved = [_store(rewriter, table, readers) for table, readers in _tables(rewriter.graph).items()]
    if not saved:
        return model, []
    return rewriter.finish(), [
        f"{len(saved)} embedding table{'s' if len(saved) > 1 else ''} in int8 with a scale a row: "
        f"{sum(saved) / 1e6:.1f} MB less"
    ]


def _tables(graph: ir.Graph) -> dict[ir.Value, list[ir.Node]]:
    """Table -> the Gathers from it, where nothing else reads it: else its floats would stay too."""
    found: dict[ir.Value, list[ir.Node]] = {}
    for node in graph:
        table = _table(node)
        if table is not None:
            found.setdefault(table, []).append(node)
    return {
        table: nodes
        for table, nodes in found.items()
        if {use.node for use in table.uses()} == {*nodes} and not table.is_graph_output()
    }


def _table(node: ir.Node) -> ir.Value | None:
    """What a Gather of computed rows takes them from, if that is constant, large and wide enough."""
    if node.op_type != "Gather" or node.domain or node.attributes.get_int("axis", 0) != 0:
        return None
    table, ids = node.inputs
    if table is None or is_constant(ids) or not is_constant(table):
        return None
    if table.dtype not in (ir.DataType.FLOAT, None):
        return None
    array = constant_of(table)
    assert array is not None
    wide = array.ndim == 2 and array.shape[1] >= 8 and array.size >= SMALLEST
    return table if wide and array.dtype == np.float32 else None


def _store(rewriter: Rewriter, table: ir.Value, readers: Sequence[ir.Node]) -> int:
    """Gather integers instead; how many bytes that saves."""
    first = readers[0]
    array = checked_constant(rewriter.constants, str(table.name), first.op_type, name_of(first))
    params = weight_params(array, 0, 127)
    scales = rewriter.constant("s", np.asarray(params.scales, np.float32)[:, None])
    integers = rewriter.constant("w", quantized_weight(array, params))
    for node in readers:
        ids = node.inputs[1]
        rows = rewriter.node("Gather", [integers, ids])
        cast = rewriter.node("Cast", [rows.outputs[0]], to=int(ir.DataType.FLOAT))
        scale = rewriter.node("Gather", [scales, ids])
        back = rewriter.node("Mul", [cast.outputs[0], scale.outputs[0]])
        rewriter.replace(node.outputs[0], [rows, cast, scale, back])
    return array.nbytes - array.size - 4 * len(array)
