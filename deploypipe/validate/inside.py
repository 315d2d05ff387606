"""The tensors inside an ONNX file: which there are, and what they hold for given inputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir

from deploypipe.graph.parts import parts_of
from deploypipe.graph.shapes import sizes_of, with_shapes
from deploypipe.runtime import Feeds, Session, Target

CHUNK_BYTES = 256 * 2**20
"""Values of inner tensors that are looked at in one run of a model."""

UNKNOWN_BYTES = 16 * 2**20
"""What a tensor is taken to hold whose shape cannot be inferred."""

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, None)


class Look(Protocol):
    """Feeds -> the tensors that were asked for, by name."""

    def __call__(self, feeds: Feeds) -> Mapping[str, np.ndarray]: ...


class Inside(Protocol):
    """A model that shows its inner tensors."""

    @property
    def tensors(self) -> Sequence[Inner]:
        """In the order of computing."""
        ...

    def looking(self, names: Sequence[str]) -> AbstractContextManager[Look]:
        """Within the block, the tensors of these names can be read."""
        ...


class Inner(Protocol):
    """A tensor that a node or a torch module gives, as :class:`Tensor` describes it."""

    @property
    def name(self) -> str: ...
    @property
    def op(self) -> str: ...
    @property
    def node(self) -> str: ...
    @property
    def parents(self) -> tuple[str, ...]: ...
    @property
    def bytes(self) -> int | None: ...


@dataclass(frozen=True)
class Tensor:
    """A float tensor that a node gives.

    ``parents`` are the names of the nearest such tensors before it; ``bytes`` None if not known.
    """

    name: str
    op: str
    node: str
    parents: tuple[str, ...] = ()
    bytes: int | None = None


class OnnxInside:
    """The outputs of the nodes of an ONNX model's main graph, run on a target.

    ``batch`` is how many samples a run will have, which decides how large tensors are.
    """

    def __init__(self, model: ir.Model, target: Target, batch: int = 1) -> None:
        self.model, self.target = model, target
        self.tensors = tuple(_tensors(model, batch))

    @contextmanager
    def looking(self, names: Sequence[str]) -> Iterator[Look]:
        with opened(with_outputs(self.model, names), self.target) as session:

            def look(feeds: Feeds) -> Mapping[str, np.ndarray]:
                answers = session(feeds)
                return {name: _tensor(answers[name]) for name in names}

            yield look


def opened(model: ir.Model, target: Target) -> Session:
    """A session of a model in memory, of any size."""
    return target.open(parts_of(model))


def with_outputs(model: ir.Model, names: Iterable[str]) -> ir.Model:
    """A copy of ``model`` that gives these tensors of its main graph as outputs too."""
    copy = model.clone()
    values = {out.name: out for node in copy.graph for out in node.outputs}
    there = {out.name for out in copy.graph.outputs}
    copy.graph.outputs.extend(values[name] for name in names if name not in there)
    return copy


def chunks(tensors: Sequence[Inner], limit: int = CHUNK_BYTES) -> Iterator[list[Inner]]:
    """The tensors in their order, as many at a time as hold ``limit`` bytes; at least one."""
    part: list[Inner] = []
    held = 0
    for tensor in tensors:
        size = UNKNOWN_BYTES if tensor.bytes is None else tensor.bytes
        if part and held + size > limit:
            yield part
            part, held = [], 0
        part.append(tensor)
        held += size
    if part:
        yield part


def _tensors(model: ir.Model, batch: int) -> Iterator[Tensor]:
    shaped = {out.name: out for node in with_shapes(model, batch).graph for out in node.outputs}
    reach: dict[str | None, tuple[str, ...]] = {}  # any tensor -> the float ones it is made from
    for node in model.graph:
        read = (reach.get(value.name, ()) for value in node.inputs if value is not None)
        parents = tuple(dict.fromkeys(name for names in read for name in names))
        for out in node.outputs:
            known = shaped.get(out.name, out)
            if out.name and _is_float(known) and node.op_type != "Constant":
                reach[out.name] = (out.name,)
                yield Tensor(out.name, node.op_type, node.name or "", parents, _bytes(known))
            else:
                reach[out.name] = parents


def _tensor(answer: object) -> np.ndarray:
    """The answer; a sequence or a map compares with nothing."""
    return answer if isinstance(answer, np.ndarray) else np.zeros(0, np.int64)


def _is_float(value: ir.Value) -> bool:
    """Whether it may be a tensor of floats: of some operators nothing is known."""
    return value.dtype in _FLOATS and isinstance(value.type, ir.TensorType | None)


def _bytes(value: ir.Value) -> int | None:
    sizes = sizes_of(value)
    return None if sizes is None else 4 * math.prod(sizes)
