"""A copy of a model in which nodes and constants are exchanged for others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from deploypipe.quantize.naming import Names
from deploypipe.quantize.plan import constants_of


class Rewriter:
    """``model`` is the copy; its values are found by the names that the original has."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model.clone()
        self.graph = self.model.graph
        self.constants = constants_of(self.model)
        self.values = {str(v.name): v for v in self.graph.inputs}
        self.values |= {str(out.name): out for node in self.graph for out in node.outputs}
        self._names = Names(self.model)
        self._added: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
        self._first: list[ir.Node] = []
        self._made: set[str] = set()

    def constant(self, prefix: str, array: npt.ArrayLike) -> ir.Value:
        """An initializer; equal ones are stored once."""
        data = np.ascontiguousarray(array).reshape(np.shape(array))
        key = (data.dtype.name, data.shape, hashlib.sha256(data.tobytes()).digest())
        if key not in self._added:
            name = self._names.new(prefix)
            value = ir.Value(name=name, const_value=ir.tensor(data, name=name))
            self.graph.register_initializer(value)
            self._added[key] = value
        return self._added[key]

    def node(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        prefix: str = "m",
        *,
        domain: str = "",
        outputs: int = 1,
        **attributes: int | float | str,
    ) -> ir.Node:
        """A node whose outputs have short new names; it is in no graph yet."""
        made = [ir.Value(name=self._names.new(prefix)) for _ in range(outputs)]
        self._made |= {str(value.name) for value in made}
        if domain:
            self.graph.opset_imports.setdefault(domain, 1)
        return ir.node(op, inputs, attributes or None, domain=domain, outputs=made)

    def in_front(self, nodes: Sequence[ir.Node]) -> None:
        """Nodes that read constants only: they come before all others in the end."""
        self._first += nodes

    def behind(self, value: ir.Value, nodes: Sequence[ir.Node]) -> None:
        """Nodes that read the value: they come before whatever else may read what they make."""
        producer = value.producer()
        if producer is None:
            self.graph.insert_before(self.graph[0], nodes)
        else:
            self.graph.insert_after(producer, nodes)

    def replace(self, old: ir.Value, nodes: Sequence[ir.Node]) -> None:
        """``nodes`` come in the place of the node that made ``old``, whose readers read the last
        one's first output, which takes over the name."""
        producer, new, name = old.producer(), nodes[-1].outputs[0], old.name
        assert producer is not None
        self.graph.insert_before(producer, nodes)
        new.type, new.shape = old.type, old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name, new.name = f"{name}.old", name
        self.values[str(name)] = new
        self._made.add(str(name))

    def feed(self, old: ir.Value, new: ir.Value) -> None:
        """All readers of a constant read ``new`` instead."""
        old.replace_all_uses_with(new)

    def finish(self) -> ir.Model:
        """The copy, without what nobody reads any more."""
        if self._first:
            self.graph.insert_before(self.graph[0], self._first)
        for node in self.graph:
            if node.outputs[0].name in self._made:
                node.name = None  # the graph gave one; a node needs none
        RemoveUnusedNodesPass()(self.model)
        return self.model
