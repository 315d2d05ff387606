"""A float model that also says what its tensors hold: extremes, and every n-th value.

    t  ->  ReduceMin, ReduceMax, Reshape(-1) -> Slice(start, step)

Done in the graph, no whole tensor leaves it, so they are let go as in plain inference and the
runtime's threads do the work.  The steps are constants for the shapes of the first sample; samples of
other shapes run in a second session whose tensors leave it whole, and the same values are picked; so
do samples after which anything is not finite.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Lock
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from deploypipe.graph.files import LARGE, weight_bytes
from deploypipe.graph.parts import parts_of
from deploypipe.graph.shapes import shaped_values, sizes_of
from deploypipe.quantize.histogram import Floats, pick, step_of
from deploypipe.quantize.naming import Names
from deploypipe.runtime import Session, Target

Arrays = Mapping[str, npt.NDArray[Any]]
"""Name -> array."""

Shapes = tuple[tuple[str, tuple[int, ...]], ...]

Listener = Callable[[npt.NDArray[Any]], None]

STREAMS_BYTES = 128_000_000
"""What the observed tensors of all samples that run at a time may hold."""


@dataclass(frozen=True)
class ChannelMean:
    """The mean of each channel of ``tensor``: reshape to ``shape`` as ONNX does (0 keeps a size),
    average ``axes``."""

    tensor: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]


Means = Mapping[ChannelMean, Floats]
"""float32 [channels] of each."""


@dataclass(frozen=True)
class Seen:
    """A tensor at one sample: float32 [n] values that were picked, of ``size`` with extremes.

    ``means`` are float32 [channels], those that were asked for.
    """

    name: str
    picked: Floats
    low: float
    high: float
    size: int
    means: Means = field(default_factory=dict)


class Lookout:
    """Runs samples and tells of ``tensors``; a context manager around one or two sessions.

    ``listeners`` are handed outputs of the model whole, by name, from whatever thread calls.
    ``means`` are of some of the tensors.  Of ``floored`` ones it is known that nothing is below
    zero; their smallest value is told as zero, which saves looking at all of them once more.  After
    :meth:`divide`, as many threads may call it at a time.
    """

    def __init__(
        self,
        model: ir.Model,
        tensors: Sequence[str],
        target: Target,
        means: Iterable[ChannelMean] = (),
        floored: Collection[str] = (),
        listeners: Mapping[str, Listener] | None = None,
    ) -> None:
        self._target, self._floored = target, frozenset(floored)
        self._listeners = dict(listeners or {})
        self._model = model.clone()
        self._lean = weight_bytes(model) > LARGE
        # In both sessions the runtime averages, so that the bits are the same.
        self._means = _average(self._model, means)
        inputs = {str(value.name) for value in model.graph.inputs}
        self._fed = [name for name in tensors if name in inputs]
        self._made = [name for name in tensors if name not in inputs]
        self._stack = ExitStack()
        self._whole: Session | None = None
        self._inside: _Inside | None = None
        self._shapes: Shapes = ()
        self._alone = Lock()

    def divide(self, sample: Arrays) -> int:
        """Open the session for such samples; how many of them it may run at a time.

        So many that their tensors take no more than ``STREAMS_BYTES``; one where it is not known
        before a run how large they are.
        """
        sizes = _inferred_sizes(self._model, self._made, sample)
        if sizes is None:
            return 1
        fit = STREAMS_BYTES // max(1, 4 * sum(sizes.values()))
        streams = max(1, min(self._target.most_streams, fit))
        self._target = self._target.divided(streams)
        self._look_inside(sizes, _shapes_of(sample))
        return streams

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def __call__(self, sample: Arrays, start: int) -> Iterator[Seen]:
        """What every tensor held, those that are empty left out; ``start`` decides what is picked."""
        shapes = _shapes_of(sample)
        if self._inside is None:
            self._look_inside(_inferred_sizes(self._model, self._made, sample), shapes)
        inside = self._inside if shapes == self._shapes else None
        made = inside(sample, start) if inside else None
        if inside is None or made is None or not inside.is_sound(made, start):
            yield from self._from_outside(sample, start)
            return
        for name in self._fed:
            yield from _seen(name, sample[name], start, self._means_of(name, made))
        for name in self._made:
            yield from inside.seen(name, made, self._means_of(name, made))
        self._hand_over(made)

    def _from_outside(self, sample: Arrays, start: int) -> Iterator[Seen]:
        """The same with whole tensors in hand, of one sample at a time."""
        with self._alone:
            made = self._answer(sample)
            for name in self._fed:
                yield from _seen(name, sample[name], start, self._means_of(name, made))
            for name in self._made:
                means = self._means_of(name, made)
                yield from _seen(name, made[name], start, means, name in self._floored)
            self._hand_over(made)
            if self._inside is None:
                sizes = {name: made[name].size for name in self._made}
                self._look_inside(sizes, _shapes_of(sample))
            del made  # before another thread makes its own

    def _look_inside(self, sizes: Mapping[str, int] | None, shapes: Shapes) -> None:
        """Open the session for these shapes, if the tensors' sizes are known."""
        if sizes is None:
            return
        held = {name: size for name, size in sizes.items() if size}
        self._inside = _Inside(
            self._model, held, self._means, self._floored, self._target, self._stack
        )
        self._shapes = shapes

    def _answer(self, sample: Arrays) -> Arrays:
        if self._whole is None:
            model = whole(self._model, [*self._made, *self._listeners, *self._means.values()])
            parts = parts_of(model, self._lean)
            self._whole = self._stack.enter_context(self._target.open(parts))
        return self._whole(sample)

    def _hand_over(self, made: Arrays) -> None:
        for name, listener in self._listeners.items():
            listener(made[name])

    def _means_of(self, name: str, made: Arrays) -> Means:
        return {mean: made[at] for mean, at in self._means.items() if mean.tensor == name}


def _shapes_of(sample: Arrays) -> Shapes:
    return tuple((name, sample[name].shape) for name in sorted(sample))


def _inferred_sizes(
    model: ir.Model, tensors: Sequence[str], sample: Arrays
) -> dict[str, int] | None:
    """How many values each tensor has for such a sample; None where that only shows in a run."""
    copy = model.clone()
    for value in copy.graph.inputs:
        if str(value.name) in sample:
            value.shape = ir.Shape(sample[str(value.name)].shape)
    values = shaped_values(copy)
    sizes = {name: sizes_of(values.get(name)) for name in tensors}
    if any(size is None for size in sizes.values()):
        return None
    return {name: math.prod(size) for name, size in sizes.items() if size is not None}


def _is_finite(array: npt.NDArray[Any]) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _seen(
    name: str, array: npt.NDArray[Any], start: int, means: Means, floored: bool = False
) -> Iterator[Seen]:
    values = np.asarray(array, np.float32)
    if values.size:
        low = 0.0 if floored else float(values.min())
        picked = pick(values, start).copy()  # or all of the tensor is held with it
        yield Seen(name, picked, low, float(values.max()), values.size, means)


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
        self,
        model: ir.Model,
        sizes: Mapping[str, int],
        means: Mapping[ChannelMean, str],
        floored: Collection[str],
        target: Target,
        stack: ExitStack,
    ) -> None:
        self._sizes = sizes
        copy = model.clone()
        editor = _Editor(copy)
        self._outputs = {
            name: editor.watch(name, size, name in floored) for name, size in sizes.items()
        }
        self._starts = {step: str(value.name) for step, value in editor.starts.items()}
        copy.graph.inputs.extend(editor.starts.values())
        outputs = [editor.values[name] for each in self._outputs.values() for name in each]
        outputs += [editor.values[name] for name in means.values()]
        # The model's own outputs tell of a NaN wherever it came from.
        copy.graph.outputs[:] = [*outputs, *copy.graph.outputs]
        self._session = stack.enter_context(
            target.open(parts_of(copy, weight_bytes(model) > LARGE))
        )

    def __call__(self, sample: Arrays, start: int) -> Arrays:
        starts = {name: np.array([start % step], np.int64) for step, name in self._starts.items()}
        return self._session({**sample, **starts})

    def is_sound(self, made: Arrays, start: int) -> bool:
        """Whether all is finite, and as much was picked as the inferred sizes say.

        The runtime's minimum and maximum may pass over a NaN, so the model's outputs count too.
        """
        for name, (picked, *_) in self._outputs.items():
            step = step_of(self._sizes[name])
            if made[picked].size != len(range(start % step, self._sizes[name], step)):
                return False
        return all(_is_finite(array) for array in made.values())

    def seen(self, name: str, made: Arrays, means: Means) -> Iterator[Seen]:
        """What the tensor held; nothing if it is empty."""
        if name in self._outputs:
            picked, high, *lows = (made[output] for output in self._outputs[name])
            low = float(lows[0]) if lows else 0.0
            yield Seen(name, picked, low, float(high), self._sizes[name], means)


def _average(model: ir.Model, means: Iterable[ChannelMean]) -> dict[ChannelMean, str]:
    """Add channel means to ``model``: each with the tensor that holds it."""
    editor = _Editor(model)
    return {mean: editor.average(mean) for mean in dict.fromkeys(means)}


class _Editor:
    """Adds nodes behind the tensors of a graph; ``values`` are all of them by name."""

    def __init__(self, model: ir.Model) -> None:
        self.graph, self.names = model.graph, Names(model)
        self.values = {str(value.name): value for value in self.graph.inputs}
        self.values |= {str(out.name): out for node in self.graph for out in node.outputs}
        self.constants: dict[tuple[int, ...], ir.Value] = {}
        self.starts: dict[int, ir.Value] = {}

    def watch(self, name: str, size: int, floored: bool) -> list[str]:
        """Names of the tensor's picked, largest and, if it is not ``floored``, smallest values."""
        value, step = self.values[name], step_of(size)
        if step not in self.starts:
            kind, shape = ir.TensorType(ir.DataType.INT64), ir.Shape([1])
            self.starts[step] = ir.Value(name=self.names.new("start"), type=kind, shape=shape)
        kinds = ("ReduceMax",) if floored else ("ReduceMax", "ReduceMin")
        ends = [self.node(op, [value], keepdims=0) for op in kinds]
        line = self.node("Reshape", [value, self.constant(-1)])
        end = self.constant(np.iinfo(np.int64).max)
        tail = [self.starts[step], end, self.constant(0), self.constant(step)]
        part = self.node("Slice", [line.outputs[0], *tail])
        self.insert(value, [*ends, line, part])
        return [str(one.outputs[0].name) for one in (part, *ends)]

    def average(self, mean: ChannelMean) -> str:
        """Name of the tensor that holds the means."""
        value, axes = self.values[mean.tensor], list(mean.axes)
        flat = self.node("Reshape", [value, self.constant(*mean.shape)])
        if self.graph.opset_imports.get("", 0) < 18:
            found = self.node("ReduceMean", flat.outputs, axes=axes, keepdims=0)
        else:
            found = self.node("ReduceMean", [flat.outputs[0], self.constant(*axes)], keepdims=0)
        self.insert(value, [flat, found])
        return str(found.outputs[0].name)

    def constant(self, *numbers: int) -> ir.Value:
        """int64 [n]; equal ones are stored once."""
        if numbers not in self.constants:
            array = ir.tensor(np.array(numbers, np.int64))
            value = ir.Value(name=self.names.new("c"), const_value=array)
            self.graph.register_initializer(value)
            self.constants[numbers] = value
        return self.constants[numbers]

    def node(self, op: str, inputs: Sequence[ir.Value], **attributes: int | list[int]) -> ir.Node:
        """A new node that makes floats."""
        output = ir.Value(name=self.names.new("o"), type=ir.TensorType(ir.DataType.FLOAT))
        self.values[str(output.name)] = output
        return ir.node(op, list(inputs), attributes or None, outputs=[output])

    def insert(self, value: ir.Value, nodes: Sequence[ir.Node]) -> None:
        """Behind what makes the value, or in front of all."""
        producer = value.producer()
        if producer is None:
            self.graph.insert_before(self.graph[0], nodes)
        else:
            self.graph.insert_after(producer, nodes)
