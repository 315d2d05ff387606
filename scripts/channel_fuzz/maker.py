"""A growing graph: nodes, weights with dead rows and columns, and the tensors that can be read.

Everything follows from the seed.  In a flat graph the pieces' weights count less; a strict one takes
no piece that rounds.  Sizes are noted as they are at batch 2, with a mark on the axes that the file
leaves open; what is known of the numbers says whether answers must agree to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from channel_fuzz.scale import Array, Scale, scale_of

T = TypeVar("T")
Attributes = dict[str, Any]
Ints = list[int]
BITS = {np.dtype(np.float32): 23, np.dtype(np.float16): 10, np.dtype(np.int32): 30}
LARGE = 2.0**12
"""Beyond it a tensor is clipped or divided before anything else reads it."""

OPSETS = range(11, 25)
CONTRIB = "com.microsoft"
FOREIGN = ("SimplifiedLayerNormalization", "Gelu", "QuickGelu", "GroupNormalization")


@dataclass(frozen=True)
class Tensor:
    """A computed tensor; ``shape`` at batch 2, ``moving`` marks the axes of dynamic size."""

    name: str
    shape: tuple[int, ...]
    moving: tuple[bool, ...]
    scale: Scale
    dtype: np.dtype[Any]
    channel: int = 1
    """The axis on which most dead cells should lie."""

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def fixed(self) -> bool:
        """Whether the file knows the whole shape."""
        return not any(self.moving)

    def like(self, other: Tensor) -> bool:
        """Whether both have one shape and dtype."""
        mine = (self.shape, self.moving, self.dtype)
        return mine == (other.shape, other.moving, other.dtype)


Piece = Callable[["Maker"], object]


@dataclass
class Maker:
    """Grows one graph.  Pieces call :meth:`pick`, :meth:`weight` and :meth:`add`."""

    seed: Sequence[int]
    opset: int = 0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    open: list[Tensor] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    infos: list[onnx.ValueInfoProto] = field(default_factory=list)
    """Shapes that onnx cannot infer, noted as exporters do."""
    exact: bool = True
    """Whether every number so far is exact in its dtype, in any order of sums."""
    half: bool = False
    """Whether some tensor is float16."""

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(list(self.seed))
        self.opset = self.opset or self.choice(list(OPSETS))
        self.whole = self.chance(0.8)
        self.strict = self.whole and self.chance(0.7)
        self.dynamic = self.chance(0.5)
        self.flat = self.chance(0.5)
        self.dead = self.choice([0.3, 0.5, 0.7])
        self._shared: dict[tuple[object, ...], tuple[str, Array]] = {}
        self._names = 0

    def chance(self, share: float) -> bool:
        """True with the given probability."""
        return bool(self.rng.random() < share)

    def integer(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return int(self.rng.integers(low, high + 1))

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self.rng.integers(len(options)))]

    def divisor(self, number: int) -> int:
        """A divisor of a number."""
        return self.choice([d for d in range(1, number + 1) if number % d == 0])

    def name(self, hint: str = "t") -> str:
        """A new name."""
        self._names += 1
        return f"{hint}{self._names}"

    def input(self, shape: tuple[int, ...], moving: tuple[bool, ...], channel: int) -> Tensor:
        """A new graph input."""
        scale = Scale(3.0, 1.0 if self.whole else 0.0)
        x = Tensor(self.name("x"), shape, moving, scale, np.dtype(np.float32), channel)
        self.inputs.append(x)
        self.open.append(x)
        return x

    def pick(
        self,
        fits: Callable[[Tensor], bool] | None = None,
        rather: Callable[[Tensor], bool] | None = None,
    ) -> Tensor | None:
        """A float tensor, mostly the last or one of the last, that fits; None if there is none."""
        options = [t for t in self.open if t.dtype.kind == "f" and t.scale.bound <= LARGE]
        options = [t for t in options if fits is None or fits(t)]
        if self.chance(0.9):  # nothing goes from an input
            options = [t for t in options if t not in self.inputs] or options
            options = [t for t in options if rather is None or rather(t)] or options
        options = options[-self.choice([1, 1, 1, 1, 2, 4, 99]) :]
        return self.choice(options) if options else None

    def numbers(self, shape: Sequence[int], dtype: Any = np.float32) -> Array:
        """Small whole numbers, or normal ones."""
        if self.whole:
            return self.rng.integers(-2, 3, tuple(shape)).astype(dtype)
        return self.rng.standard_normal(tuple(shape)).astype(dtype)

    def constants(self, count: int, dtype: Any = np.float32) -> Array:
        """Zeros and powers of two, by which sums can be merged exactly, or other numbers."""
        found = self.rng.choice([0, 0, 0, 1, 1, 2, -1, 4], count)
        noise = 0 if self.whole else 0.3 * self.rng.standard_normal(count) * (found != 0)
        return np.asarray(found + noise, dtype)

    def weight(
        self,
        shape: Sequence[int],
        dtype: Any = np.float32,
        made: int | None = None,
        read: int | None = None,
    ) -> tuple[str, Array]:
        """Weights with a random set of zero slices on the axes that are made and read.

        Now and then one that is there already, with another reader.
        """
        role = (*shape, np.dtype(dtype), made, read)
        if role in self._shared and self.chance(0.3):
            return self._shared[role]
        array = self.numbers(shape, dtype)
        for axis in (axis for axis in (made, read) if axis is not None):
            share = self.dead if axis == made else self.dead * self.choice([0.0, 0.5, 1.0])
            np.moveaxis(array, axis, 0)[self.some(shape[axis], share)] = 0
        self._shared[role] = self.constant(array, "w"), array
        return self._shared[role]

    def some(self, count: int, share: float) -> Array:
        """bool [count]: a random set, or all places of a block or a residue, or all but those."""
        width = self.divisor(count)
        if width in (1, count) or share == 0 or self.chance(0.5):
            return self.rng.random(count) < share
        places = np.arange(count) // width if self.chance(0.5) else np.arange(count) % width
        chosen = places == self.choice(places.tolist())
        return np.asarray(chosen if self.chance(0.7) else ~chosen)

    def bias(self, rows: Array, dtype: Any = np.float32) -> Array:
        """One number for each row of weights; where the row is zero, often zero as well."""
        dead = ~np.asarray(rows).reshape(len(rows), -1).any(1)
        array = self.numbers((len(rows),), dtype)
        if self.chance(0.4):
            return np.asarray(np.where(dead, self.choice([0, 1, 2]), array), dtype)
        return np.asarray(np.where(dead, self.constants(len(rows), dtype), array), dtype)

    def constant(self, array: Array, hint: str = "c") -> str:
        """The name of a constant: an initializer, or now and then a Constant node."""
        name = self.name(hint)
        tensor = numpy_helper.from_array(np.asarray(array), name)
        if self.chance(0.1):
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.initializers.append(tensor)
        return name

    def ints(self, numbers: Iterable[int]) -> str:
        """A constant list of int64."""
        return self.constant(np.array(list(numbers), np.int64), "i")

    def node(self, op: str, inputs: Sequence[str], count: int = 1, **attributes: Any) -> list[str]:
        """A node; the names of its outputs."""
        domain = CONTRIB if op.startswith(CONTRIB) else ""
        outputs = [self.name() for _ in range(count)]
        op = op.removeprefix(f"{CONTRIB}.")
        name = self.name(op.lower())
        self.nodes.append(
            helper.make_node(op, inputs, outputs, name=name, domain=domain, **attributes)
        )
        self.read.update(inputs)
        return outputs

    def add(
        self,
        op: str,
        inputs: Sequence[Tensor | str],
        shape: Sequence[int] | None = None,
        moving: Sequence[bool] | None = None,
        scale: Scale | None = None,
        dtype: Any = None,
        channel: int | None = None,
        **attributes: Any,
    ) -> Tensor:
        """A node with one output, by default like its first input."""
        names = [x if isinstance(x, str) else x.name for x in inputs]
        output = self.node(op, names, **attributes)[0]
        first = next(x for x in inputs if isinstance(x, Tensor))
        return self.opened(replace(first, name=output), shape, moving, scale, dtype, channel)

    def opened(
        self,
        tensor: Tensor,
        shape: Sequence[int] | None = None,
        moving: Sequence[bool] | None = None,
        scale: Scale | None = None,
        dtype: Any = None,
        channel: int | None = None,
    ) -> Tensor:
        """Note a tensor, changed as told, as one that can be read."""
        found = Tensor(
            tensor.name,
            tensor.shape if shape is None else tuple(int(size) for size in shape),
            tensor.moving if moving is None else tuple(moving),
            tensor.scale if scale is None else scale,
            np.dtype(tensor.dtype if dtype is None else dtype),
            min(tensor.channel if channel is None else channel, len(shape or tensor.shape) - 1),
        )
        if self.nodes and self.nodes[-1].op_type in FOREIGN:
            self.infos.append(_info(found))
        self.exact &= found.scale.exact(BITS.get(found.dtype, 23))
        self.half |= found.dtype == np.float16
        self.open.append(found)
        return found

    def model(self, outputs: Sequence[Tensor]) -> onnx.ModelProto:
        """The graph as a file."""
        graph = helper.make_graph(
            self.nodes,
            "fuzz",
            [_info(x) for x in self.inputs],
            [_info(y) for y in outputs],
            self.initializers,
            value_info=self.infos,
        )
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def keep_exact(self, grow: Callable[[], object]) -> None:
        """Grow; where that rounds and the graph is one of those that must not, take it back."""
        lists: list[list[Any]] = [self.nodes, self.initializers, self.open, self.infos]
        sizes = [len(one) for one in lists]
        shared, read = dict(self._shared), set(self.read)
        grow()
        if not self.exact and self.strict:
            for one, size in zip(lists, sizes, strict=True):
                del one[size:]
            self._shared, self.read, self.exact, self.half = shared, read, True, False

    def tame(self, x: Tensor) -> Tensor:
        """Bring large numbers down."""
        if self.chance(0.5):
            factor = 2.0 ** -np.ceil(np.log2(x.scale.bound / 16))
            array = np.array(factor, x.dtype)
            return self.add("Mul", [x, self.constant(array)], scale=x.scale * scale_of(array))
        low, high = (self.constant(np.array(v, x.dtype)) for v in (-8, 8))
        return self.add("Clip", [x, low, high], scale=replace(x.scale, bound=8.0))


def _info(x: Tensor) -> onnx.ValueInfoProto:
    kind = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}[x.dtype.name]
    dims: list[int | str] = [
        ("N" if (axis, size) == (0, 2) else f"N{axis}_{size}") if moving else size
        for axis, (size, moving) in enumerate(zip(x.shape, x.moving, strict=True))
    ]
    return helper.make_tensor_value_info(x.name, kind, dims)
