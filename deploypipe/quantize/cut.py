"""The cheapest choice of what runs in 8 bits: a minimum cut.

Every unit is on one of two sides, 8 bits or float, and costs what it was measured to cost there.  A
tensor that crosses costs its conversion, once, however many readers are on the other side:

    8-bit maker,  any float reader    DequantizeLinear
    float maker,  any 8-bit reader    QuantizeLinear

Both terms are submodular, so the cheapest of all 2^n choices is a minimum s-t cut (Picard and Ratliff
1975); "any reader" is one node between the tensor's maker and its readers.  The flow is found along
shortest augmenting paths (Edmonds and Karp 1972): graphs have hundreds of units, not millions.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Side = str
_INT, _FLOAT = "int8", "float"


@dataclass(frozen=True)
class Crossing:
    """A tensor between units.  ``maker`` and ``readers`` are names of units, None for a float node.

    ``quantize`` and ``dequantize`` are microseconds.
    """

    maker: str | None
    readers: tuple[str | None, ...]
    quantize: float
    dequantize: float


def cheapest(
    in_float: Mapping[str, float], in_int: Mapping[str, float], crossings: Iterable[Crossing]
) -> frozenset[str]:
    """Names of the units that run in 8 bits in the cheapest choice; of equal ones, the fewest.

    ``in_float`` and ``in_int`` are microseconds of every unit, not negative; ``inf`` forbids a side.

    Raises:
        ValueError: both sides of a unit are forbidden.
    """
    network = _Network()
    for name, cost in in_float.items():
        if math.isinf(cost) and math.isinf(in_int[name]):
            raise ValueError(f"'{name}' can run neither in float nor in 8 bits")
        network.add(_INT, ("unit", name), cost)  # cut where the unit is on the float side
        network.add(("unit", name), _FLOAT, in_int[name])
    for number, one in enumerate(crossings):
        maker = _node(one.maker)
        readers = [_node(reader) for reader in one.readers]
        network.add_any(("quantize", number), readers, maker, one.quantize)
        network.add_all(("dequantize", number), readers, maker, one.dequantize)
    reached = network.cut(_INT, _FLOAT)
    return frozenset(name for name in in_float if ("unit", name) in reached)


_Vertex = object


def _node(unit: str | None) -> _Vertex:
    return _FLOAT if unit is None else ("unit", unit)


class _Network:
    """Capacities of directed edges."""

    def __init__(self) -> None:
        self.capacity: dict[_Vertex, dict[_Vertex, float]] = {}

    def add(self, start: _Vertex, end: _Vertex, capacity: float) -> None:
        if start == end or capacity <= 0:
            return
        forward = self.capacity.setdefault(start, {})
        forward[end] = forward.get(end, 0.0) + capacity
        self.capacity.setdefault(end, {}).setdefault(start, 0.0)

    def add_any(
        self, between: _Vertex, readers: list[_Vertex], maker: _Vertex, cost: float
    ) -> None:
        """``cost`` where the maker is float and any reader is not."""
        for reader in readers:
            self.add(reader, between, math.inf)
        self.add(between, maker, cost)

    def add_all(
        self, between: _Vertex, readers: list[_Vertex], maker: _Vertex, cost: float
    ) -> None:
        """``cost`` where the maker is not float and any reader is."""
        for reader in readers:
            self.add(between, reader, math.inf)
        self.add(maker, between, cost)

    def cut(self, source: _Vertex, sink: _Vertex) -> set[_Vertex]:
        """The vertices on the source's side of the minimum cut that is nearest to the source."""
        while True:
            came_from = self._search(source)
            if sink not in came_from:
                return set(came_from)
            self._push(came_from, source, sink)

    def _search(self, source: _Vertex) -> dict[_Vertex, _Vertex]:
        came_from: dict[_Vertex, _Vertex] = {source: source}
        waiting = deque([source])
        while waiting:
            here = waiting.popleft()
            for there, left in self.capacity.get(here, {}).items():
                if left > 1e-9 and there not in came_from:
                    came_from[there] = here
                    waiting.append(there)
        return came_from

    def _push(self, came_from: Mapping[_Vertex, _Vertex], source: _Vertex, sink: _Vertex) -> None:
        path, here = [], sink
        while here != source:
            path.append((came_from[here], here))
            here = came_from[here]
        flow = min(self.capacity[start][end] for start, end in path)
        for start, end in path:
            self.capacity[start][end] -= flow
            self.capacity[end][start] += flow
