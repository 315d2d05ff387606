"""Take the exporter's notes out of the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from deploypipe.graph import GraphPass, Outcome

_EXPORTERS = ("pkg.torch", "pkg.onnxscript", "pkg.onnx_ir")


@dataclass(frozen=True)
class StripMetadata(GraphPass):
    """Remove the notes of exporters: stack traces, module names, doc strings, noted shapes.

    ::

        node(metadata_props: {stack_trace: 'File "/home/me/net.py", line 7'})  becomes  node()

    Such notes hold the paths of the machine that exported, and in a small model they are a
    quarter of the file.  What the user set on the model as a whole stays: its doc string and its
    metadata, apart from keys that exporters write; so do producer, version and all names.  With
    ``shapes`` the noted shapes of intermediate values go too; runtimes infer them.  That alone
    is no change: other passes note shapes for their own use.
    """

    shapes: bool = True

    def call(self, model: ir.Model) -> Outcome:
        notes = [_strip_properties(thing) for thing in _things(model)]
        notes += [_strip_weight(v) for g in model.graphs() for v in g.initializers.values()]
        exporters = [key for key in model.metadata_props if key.startswith(_EXPORTERS)]
        for key in exporters:
            del model.metadata_props[key]
        shapes = [_strip_shape(value) for value in _inner(model)] if self.shapes else []
        count = sum(notes) + len(exporters)
        changes = [f"removed {count} notes and {sum(shapes)} noted shapes"] if count else []
        return Outcome(model, bool(changes), changes)


Noted = ir.Graph | ir.Function | ir.Node | ir.Value


def _things(model: ir.Model) -> Iterator[Noted]:
    """Everything below the model that can carry notes."""
    holders: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for holder in holders:
        yield holder
        yield from holder.subgraphs()
        yield from holder.inputs
        for node in holder.all_nodes():
            yield node
            yield from node.outputs
    for graph in model.graphs():
        yield from graph.inputs
        yield from graph.initializers.values()


def _strip_properties(thing: Noted) -> int:
    count = len(thing.metadata_props) + bool(thing.doc_string)
    thing.metadata_props.clear()
    if thing.doc_string:
        thing.doc_string = None
    return count


def _strip_weight(value: ir.Value) -> int:
    """A tensor as read from a file cannot be edited, so one with notes is made anew."""
    tensor = value.const_value
    count = 0 if tensor is None else len(tensor.metadata_props) + bool(tensor.doc_string)
    if tensor is not None and count and tensor.dtype == ir.DataType.STRING:
        value.const_value = ir.StringTensor(tensor.numpy(), name=value.name)
    elif tensor is not None and count:
        value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=value.name)
    return count


def _inner(model: ir.Model) -> Iterator[ir.Value]:
    """Values that are neither inputs nor outputs of a graph: their shapes are only notes."""
    for node in model.graph.all_nodes():
        yield from (value for value in node.outputs if not value.is_graph_output())


def _strip_shape(value: ir.Value) -> bool:
    noted = value.shape is not None or value.type is not None
    value.shape = value.type = None
    return noted
