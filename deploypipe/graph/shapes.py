"""Shapes of all values, by onnx's own inference on a copy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, ShapeInferencePass

_STAND_INS = {
    ("", "GroupNormalization"): "InstanceNormalization",
    ("com.microsoft", "Gelu"): "Relu",
    ("com.microsoft", "QuickGelu"): "Relu",
}
"""Ops that onnx's inference does not know -> one that it knows, of the same shapes."""


def with_shapes(model: ir.Model, batch: int | None = None) -> ir.Model:
    """A copy of ``model``, functions inlined, whose values carry the shapes that can be inferred.

    Shapes noted in the model are trusted only where inference has nothing to say: an edited graph
    may carry stale ones.  With ``batch``, the symbol of every input's first dimension becomes it.
    """
    copy = model.clone()
    if copy.functions:
        InlinePass()(copy)
    sizes = _batch_symbols(copy, batch) if batch is not None else {}
    for value in copy.graph.inputs:
        value.shape = _bound(value.shape, sizes, batch)
    noted = {value: _bound(value.shape, sizes, None) for value in _computed(copy)}
    for value in noted:
        value.shape = None
    infer_shapes(copy)
    for value, shape in noted.items():
        value.shape = _filled(value.shape, shape)
    return copy


def infer_shapes(model: ir.Model) -> None:
    """Note in ``model`` the shapes that can be inferred; one node that cannot spoils no other."""
    with _known(model):
        ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)


@contextmanager
def _known(model: ir.Model) -> Iterator[None]:
    """Meanwhile, ops that inference does not know are called after those that stand in for them."""
    nodes = [node for node in model.graph.all_nodes() if (node.domain, node.op_type) in _STAND_INS]
    names = [(node.domain, node.op_type) for node in nodes]
    try:
        for node, name in zip(nodes, names, strict=True):
            node.domain, node.op_type = "", _STAND_INS[name]
        yield
    finally:
        for node, name in zip(nodes, names, strict=True):
            node.domain, node.op_type = name


def shaped_values(model: ir.Model) -> dict[str | None, ir.Value]:
    """Name -> value with inferred shape and type, of the main graph; ``model`` stays as it is."""
    graph = with_shapes(model).graph
    values = [*graph.inputs, *graph.initializers.values()]
    return {v.name: v for v in [*values, *(out for node in graph for out in node.outputs)]}


def sizes_of(value: ir.Value | None) -> tuple[int, ...] | None:
    """A value's shape if every dimension is a known number."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return tuple(int(size) for size in value.shape.numpy())


def _batch_symbols(model: ir.Model, batch: int) -> dict[str, int]:
    firsts = [v.shape[0] for v in model.graph.inputs if v.shape is not None and len(v.shape)]
    symbols = (dim.value for dim in firsts if isinstance(dim, ir.SymbolicDim))
    return {symbol: batch for symbol in symbols if symbol is not None}


def _bound(shape: ir.Shape | None, sizes: dict[str, int], first: int | None) -> ir.Shape | None:
    """``shape`` with symbols replaced by sizes, and an unknown first dimension by ``first``."""
    if shape is None:
        return None
    dims = [
        sizes.get(dim.value or "", dim) if isinstance(dim, ir.SymbolicDim) else dim for dim in shape
    ]
    if first is not None and dims and isinstance(dims[0], ir.SymbolicDim):
        dims[0] = first
    return ir.Shape(dims)


def _filled(inferred: ir.Shape | None, noted: ir.Shape | None) -> ir.Shape | None:
    """``inferred``, its unknown dimensions taken from ``noted`` where the ranks agree."""
    if inferred is None or noted is None or len(inferred) != len(noted):
        return noted if inferred is None else inferred
    pairs = zip(inferred, noted, strict=True)
    return ir.Shape([there if isinstance(dim, ir.SymbolicDim) else dim for dim, there in pairs])


def _computed(model: ir.Model) -> Iterator[ir.Value]:
    for node in model.graph.all_nodes():
        yield from node.outputs
