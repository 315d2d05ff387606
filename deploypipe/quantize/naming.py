"""Short names that nothing in the model has yet."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from deploypipe.graph.naming import base_36


class Names:
    """Hands out ``q0``, ``q1`` ... ``qz``, ``q10``: a name is stored each time it is used."""

    def __init__(self, model: ir.Model) -> None:
        self.taken = {value.name for graph in model.graphs() for value in _values(graph)}
        self.taken |= {out.name for node in model.graph.all_nodes() for out in node.outputs}
        self.counts: Counter[str] = Counter()

    def new(self, prefix: str) -> str:
        """A name that starts with ``prefix`` and is not taken."""
        while True:
            name = prefix + base_36(self.counts[prefix])
            self.counts[prefix] += 1
            if name not in self.taken:
                self.taken.add(name)
                return name


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *graph.initializers.values()]
