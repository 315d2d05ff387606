"""Make a counterexample small: cut it downstream, upstream and in between, while it stays one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx
from onnx import shape_inference

Bad = Callable[[onnx.ModelProto], bool]


def shrink(model: onnx.ModelProto, bad: Bad, tries: int = 400) -> onnx.ModelProto:
    """The smallest model found for which ``bad`` still holds."""
    left = tries
    while left > 0:
        for candidate in _smaller(model):
            if _size(candidate) >= _size(model):
                continue
            left -= 1
            if bad(candidate):
                model = candidate
                break
            if left <= 0:
                return model
        else:
            return model
    return model


def _size(model: onnx.ModelProto) -> tuple[int, int]:
    return len(model.graph.node), len(model.graph.output)


def _smaller(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Models with less in them, the largest steps first."""
    infos = _infos(model)
    if len(model.graph.output) > 1:
        for output in model.graph.output:
            yield _with(model, outputs=[output])
    outputs = {output.name for output in model.graph.output}
    for node in model.graph.node:
        for name in node.output:
            if name in infos and name not in outputs:
                yield _with(model, outputs=[infos[name]])
    for node in reversed(model.graph.node):
        for name in node.output:
            if name in infos and name not in outputs:
                yield _with(model, cut=infos[name])
    for node in reversed(model.graph.node):
        for name in node.input:
            if _alike(infos.get(name), infos.get(node.output[0])):
                yield _with(model, bypass=(node.output[0], name))


def _infos(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """Name -> type and shape of all floats of known rank."""
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    found = {}
    for info in (*graph.input, *graph.value_info, *graph.output):
        kind = info.type.tensor_type
        if kind.elem_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
            dims = kind.shape.dim if kind.HasField("shape") else []
            if dims and all(d.dim_value or d.dim_param for d in dims):
                found[info.name] = info
    return found


def _alike(a: onnx.ValueInfoProto | None, b: onnx.ValueInfoProto | None) -> bool:
    return a is not None and b is not None and a.type == b.type and a.name != b.name


def _with(
    model: onnx.ModelProto,
    outputs: list[onnx.ValueInfoProto] | None = None,
    cut: onnx.ValueInfoProto | None = None,
    bypass: tuple[str, str] | None = None,
) -> onnx.ModelProto:
    """A copy with other outputs, with a tensor as an input, or with one read instead of another."""
    new = onnx.ModelProto()
    new.CopyFrom(model)
    graph = new.graph
    if outputs is not None:
        del graph.output[:]
        graph.output.extend(outputs)
    if cut is not None:
        nodes = [node for node in graph.node if cut.name not in node.output]
        del graph.node[:]
        graph.node.extend(nodes)
        graph.input.append(cut)
    if bypass is not None:
        _rename(graph, *bypass)
    _sweep(graph)
    return new


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, old, new)


def _reads(node: onnx.NodeProto) -> set[str]:
    """All names that a node and its subgraphs read."""
    names = set(node.input)
    for attribute in node.attribute:
        for inner in attribute.g.node if attribute.HasField("g") else ():
            names |= _reads(inner)
    return names


def _sweep(graph: onnx.GraphProto) -> None:
    """Drop what no output needs."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= _reads(node)
            kept.append(node)
    fields = (
        (graph.node, kept[::-1]),
        (graph.initializer, [w for w in graph.initializer if w.name in needed]),
        (graph.input, [x for x in graph.input if x.name in needed]),
    )
    for repeated, values in fields:
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        del repeated[:]
        repeated.extend(copies)
    made = {name for node in graph.node for name in node.output}
    made -= {value.name for value in (*graph.input, *graph.output)}
    infos = [info for info in graph.value_info if info.name in made]
    del graph.value_info[:]
    graph.value_info.extend(infos)
