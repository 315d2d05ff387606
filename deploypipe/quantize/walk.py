"""Walk through a model piece by piece, all samples through one piece before the next begins.

So a layer can be changed after its inputs are known and before its outputs are, and everything is
computed once: the whole walk costs about one inference of the samples.  Held are only the tensors that
later pieces read, those of all samples.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from deploypipe.quantize.correction import DeclinedError
from deploypipe.quantize.lookout import Arrays
from deploypipe.runtime import Target

Held = dict[str, npt.NDArray[Any]]


class Walk:
    """``held`` are the tensors of every sample that are still to be read; they may be replaced.

    ``model`` is to be changed only in its constants, before their readers run.

    Running raises DeclinedError where something else than tensors goes from piece to piece.
    """

    def __init__(self, model: ir.Model, samples: Sequence[Arrays], target: Target) -> None:
        self.model, self._target, self._next = model, target, 0
        self.held = [dict(sample) for sample in samples]
        self._constant = _constants(model.graph, {name for one in samples for name in one})
        self._nodes = [n for n in model.graph if n.outputs[0] not in self._constant]
        self._places = {str(o.name): i for i, n in enumerate(self._nodes) for o in n.outputs}
        self._last = {str(v.name): i for i, node in enumerate(self._nodes) for v in _read(node)}
        self._last |= {str(value.name): len(self._nodes) for value in model.graph.outputs}

    def before(self, name: str) -> None:
        """Run all that comes before the node that makes this tensor, in the graph's order."""
        self._run(self._places[name])

    def after(self, name: str) -> None:
        """Run on until this tensor is made."""
        self._run(self._places[name] + 1)

    def store(self, node: ir.Node, index: int, array: npt.NDArray[Any]) -> None:
        """Give a node that has not run another constant."""
        name = f"{node.outputs[0].name}.{index}"
        value = ir.Value(name=name, const_value=ir.tensor(np.ascontiguousarray(array), name=name))
        self.model.graph.register_initializer(value)
        self._constant.add(value)
        node.replace_input_with(index, value)

    def _run(self, end: int) -> None:
        """Run the nodes up to the ``end``-th."""
        nodes = self._nodes[self._next : end]
        self._next = max(end, self._next)
        if not nodes:
            return
        made = [str(o.name) for node in nodes for o in node.outputs]
        outputs = [name for name in made if self._last.get(name, -1) >= end]
        read = {str(value.name) for node in nodes for value in _read(node)}
        inputs = [name for name in self.held[0] if name in read]
        if outputs:
            with self._target.open(self._piece(nodes, inputs, outputs)) as session:
                for held in self.held:
                    held.update(_tensors(session({name: held[name] for name in inputs})))
        for held in self.held:
            for name in [name for name in held if self._last.get(name, -1) < end]:
                del held[name]

    def _piece(self, nodes: list[ir.Node], inputs: list[str], outputs: list[str]) -> bytes:
        """A model of some nodes and the constants that they read."""
        proto, waiting, seen = onnx.ModelProto(ir_version=self.model.ir_version), list(nodes), set()
        constants: list[ir.Node] = []
        while waiting:
            for value in _read(waiting.pop()):
                producer = value.producer()
                if value not in self._constant or value in seen:
                    continue
                seen.add(value)
                if producer is not None:
                    constants.append(producer)
                    waiting.append(producer)
                elif value.const_value is not None:
                    proto.graph.initializer.append(_tensor(value))
        wanted = {id(node) for node in [*constants, *nodes]}
        ordered = [node for node in self.model.graph if id(node) in wanted]
        proto.graph.name = "piece"
        proto.graph.node.extend(ir.serde.serialize_node(node) for node in ordered)
        proto.graph.input.extend(_described(name, self.held[0][name]) for name in inputs)
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        functions = self.model.functions.values()
        proto.functions.extend(ir.serde.serialize_function(one) for one in functions)
        for domain, version in self.model.opset_imports.items():
            proto.opset_import.add(domain=domain, version=version)
        return bytes(proto.SerializeToString())


def _tensors(answers: Arrays) -> Arrays:
    """What the next piece can be fed."""
    for name, answer in answers.items():
        if not isinstance(answer, np.ndarray):
            raise DeclinedError(f"'{name}' is no tensor, and cannot be held between two layers")
    return answers


def _tensor(value: ir.Value) -> onnx.TensorProto:
    assert value.const_value is not None
    proto = ir.serde.serialize_tensor(value.const_value)
    proto.name = str(value.name)
    return proto


def _described(name: str, array: npt.NDArray[Any]) -> onnx.ValueInfoProto:
    """Only the rank is given: samples may be of different sizes."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.helper.make_tensor_value_info(name, kind, [None] * array.ndim)


def _read(node: ir.Node) -> set[ir.Value]:
    """What the node reads, its subgraphs included."""
    found = {value for value in node.inputs if value is not None}
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            graph = attribute.as_graph()
            inner = {value for one in graph for value in _read(one)} | set(graph.outputs)
            own = {*graph.inputs, *graph.initializers.values()}
            found |= inner - own - {output for one in graph for output in one.outputs}
    return found


def _constants(graph: ir.Graph, fed: Collection[str]) -> set[ir.Value]:
    """Initializers that are not ``fed``, and what is computed from nothing else."""
    found = {v for name, v in graph.initializers.items() if name not in fed}
    for node in graph:
        if not node.op_type.startswith("Random") and all(v in found for v in _read(node)):
            found |= set(node.outputs)
    return found


def affordable(
    samples: Sequence[Arrays], largest: int, limit: int = 256_000_000
) -> Sequence[Arrays]:
    """As many samples as fit the limit in bytes, four tensors of ``largest`` elements each; 4 at
    least."""
    return samples[: max(4, limit // max(16 * largest, 1))]
