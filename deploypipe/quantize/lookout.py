"""A float model that also says what its tensors hold: extremes, and every n-th value.

    t  ->  ReduceMin, ReduceMax, Reshape(-1) -> Slice(start, step)

Done in the graph, no whole tensor leaves it, so they are let go as in plain inference and the
runtime's threads do the work.  The steps are constants for the shapes of the first sample; samples of
other shapes run in a second session whose tensors leave it whole, and the same values are picked.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph.files import to_bytes
from deploypipe.quantize.histogram import Floats, pick, step_of
from deploypipe.quantize.naming import Names
from deploypipe.runtime import Session, Target

Arrays = Mapping[str, npt.NDArray[Any]]
"""Name -> array."""

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Seen:
    """A tensor at one sample: float32 [n] values that were picked, of ``size`` with extremes."""

    name: str
    picked: Floats
    low: float
    high: float
    size: int


class Lookout:
    """Runs samples and tells of ``tensors``; a context manager around one or two sessions."""

    def __init__(self, model: ir.Model, tensors: Sequence[str], target: Target) -> None:
        self._model, self._target = model, target
        inputs = {str(value.name) for value in model.graph.inputs}
        self._fed = [name for name in tensors if name in inputs]
        self._made = [name for name in tensors if name not in inputs]
        self._stack = ExitStack()
        self._whole: Session | None = None
        self._inside: _Inside | None = None
        self._shapes: Shapes = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def __call__(self, sample: Arrays) -> Iterator[Seen]:
        """What every tensor held, those that are empty left out."""
        start = digest(sample)
        for name in self._fed:
            yield from _seen(name, sample[name], start)
        shapes = tuple((name, sample[name].shape) for name in sorted(sample))
        if self._inside is not None and shapes == self._shapes:
            yield from self._inside(sample, start)
            return
        whole = self._answer(sample)
        if self._inside is None:
            sizes = {name: whole[name].size for name in self._made if whole[name].size}
            self._inside = _Inside(self._model, sizes, self._target, self._stack)
            self._shapes = shapes
        for name in self._made:
            yield from _seen(name, whole[name], start)

    def _answer(self, sample: Arrays) -> Arrays:
        if self._whole is None:
            model = to_bytes(whole(self._model, self._made))
            self._whole = self._stack.enter_context(self._target.open(model))
        return self._whole(sample)


def _seen(name: str, array: npt.NDArray[Any], start: int) -> Iterator[Seen]:
    values = np.asarray(array, np.float32)
    if values.size:
        extremes = float(values.min()), float(values.max())
        yield Seen(name, pick(values, start), *extremes, values.size)


def digest(sample: Arrays) -> int:
    """A number that depends on what is in the sample and on nothing else."""
    number = 0
    for name in sorted(sample):
        number = zlib.crc32(np.ascontiguousarray(sample[name]).data, number)
    return number


def whole(model: ir.Model, tensors: Sequence[str]) -> ir.Model:
    """A copy whose outputs are ``tensors``, none of them an input."""
    copy = model.clone()
    wanted = set(tensors)
    values = [out for node in copy.graph for out in node.outputs if out.name in wanted]
    for value in values:
        value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
    copy.graph.outputs[:] = values or list(copy.graph.outputs)
    return copy


class _Inside:
    """The session that picks in the graph; ``sizes`` are the tensors' values at these shapes."""

    def __init__(
        self, model: ir.Model, sizes: Mapping[str, int], target: Target, stack: ExitStack
    ) -> None:
        self._sizes = sizes
        copy = model.clone()
        self._outputs, self._start = _watch(copy, sizes)
        self._session = stack.enter_context(target.open(to_bytes(copy)))

    def __call__(self, sample: Arrays, start: int) -> Iterator[Seen]:
        starts = {name: np.array([start % step], np.int64) for step, name in self._start.items()}
        made = self._session({**sample, **starts})
        for name, (low, high, picked) in self._outputs.items():
            extremes = float(made[low]), float(made[high])
            yield Seen(name, made[picked], *extremes, self._sizes[name])


def _watch(
    model: ir.Model, sizes: Mapping[str, int]
) -> tuple[dict[str, tuple[str, str, str]], dict[int, str]]:
    """Change ``model``: its outputs are those of the watched tensors, and every step has an input.

    Returns tensor -> its three outputs (smallest, largest, picked), and step -> input.
    """
    graph, names = model.graph, Names(model)

    def constant(array: npt.NDArray[Any]) -> ir.Value:
        value = ir.Value(name=names.new("c"), const_value=ir.tensor(array))
        graph.register_initializer(value)
        return value

    def node(op: str, inputs: Sequence[ir.Value], **attributes: int) -> ir.Node:
        output = ir.Value(name=names.new("o"), type=ir.TensorType(ir.DataType.FLOAT))
        return ir.node(op, inputs, attributes or None, outputs=[output])

    flat, first = constant(np.array([-1], np.int64)), constant(np.array([0], np.int64))
    end = constant(np.array([np.iinfo(np.int64).max], np.int64))
    starts: dict[int, ir.Value] = {}
    steps: dict[int, ir.Value] = {}
    found: dict[str, tuple[str, str, str]] = {}
    outputs: list[ir.Value] = []
    for value in [out for one in graph for out in one.outputs if out.name in sizes]:
        step = step_of(sizes[str(value.name)])
        if step not in steps:
            steps[step] = constant(np.array([step], np.int64))
            kind, shape = ir.TensorType(ir.DataType.INT64), ir.Shape([1])
            starts[step] = ir.Value(name=names.new("start"), type=kind, shape=shape)
        line = node("Reshape", [value, flat])
        part = node("Slice", [line.outputs[0], starts[step], end, first, steps[step]])
        ends = [node(op, [value], keepdims=0) for op in ("ReduceMin", "ReduceMax")]
        producer = value.producer()
        assert producer is not None
        graph.insert_after(producer, [*ends, line, part])
        made = [*(one.outputs[0] for one in ends), part.outputs[0]]
        outputs += made
        low, high, picked = (str(one.name) for one in made)
        found[str(value.name)] = (low, high, picked)
    graph.inputs.extend(starts.values())
    graph.outputs[:] = outputs or list(graph.outputs)
    return found, {step: str(value.name) for step, value in starts.items()}
