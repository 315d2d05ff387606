"""Run samples through the float model and count the values of the tensors that will be 8-bit."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate
from operator import itemgetter
from typing import Self

import onnx_ir as ir

from deploypipe.core.errors import UserError
from deploypipe.core.progress import Progress, Silent
from deploypipe.core.tensors import TensorSpec, check_feeds
from deploypipe.graph.interface import inputs_of
from deploypipe.quantize.exact_sum import ExactSum
from deploypipe.quantize.histogram import Counter, Histogram, NotFiniteError
from deploypipe.quantize.lookout import (
    Arrays,
    ChannelMean,
    Lookout,
    Means,
    Seen,
    digest,
)
from deploypipe.quantize.margins import Collector, Margins, answers_of
from deploypipe.quantize.units import name_of
from deploypipe.runtime import Target

_WHERE = "calibration samples"
_SINGLE = 32
PROBES = 8
KEPT, KEPT_BYTES = 64, 64_000_000
"""Samples kept for whoever wants to run the model again: those with the smallest digests, as many
as these bytes hold, but at least ``PROBES``."""
JUDGES = 32


@dataclass(frozen=True)
class Observation:
    """Tensor name -> histogram, over so many samples; ``kept`` are some of them, the same ones in
    any order.

    ``means`` are those that were asked for, ``margins`` those of a classifier's answers.
    """

    histograms: Mapping[str, Histogram]
    samples: int
    kept: tuple[Arrays, ...] = ()
    means: Means = field(default_factory=dict)
    margins: Margins | None = None

    @property
    def probes(self) -> tuple[Arrays, ...]:
        """A few, to time with."""
        return self.kept[:PROBES]

    @property
    def judges(self) -> tuple[Arrays, ...]:
        """What a correction is judged on: half of what is kept, at most ``JUDGES``."""
        return self.kept[: min(JUDGES, (len(self.kept) + 1) // 2)]

    @property
    def lessons(self) -> tuple[Arrays, ...]:
        """What a correction may be fitted to: the others; of one sample alone, that one."""
        return self.kept[len(self.judges) :] or self.kept


def observe(
    model: ir.Model,
    tensors: Sequence[str],
    feeds: Iterable[Arrays],
    target: Target,
    progress: Progress | None = None,
    expected: int = 0,
    means: Collection[ChannelMean] = (),
    floored: Collection[str] = (),
) -> Observation:
    """Count the values of ``tensors`` over all ``feeds``; ``model`` stays as it is.

    ``expected`` is how many samples there will be, for the progress; ``means`` are averaged too,
    and nothing of ``floored`` tensors is below zero: a Relu makes them.

    Samples run one by one where the model's batch is dynamic, because a kernel may add in another
    order for another batch size, and which of a tensor's values are counted is decided by the
    sample itself.  So the counts do not depend on how samples come in batches, nor on their order,
    to the last bit.  Where a target can divide its threads, several samples run at a time, each in
    its own.  Memory: the tensors of those, within ``STREAMS_BYTES`` unless one alone takes more, and
    about 1 MB for each tensor.

    Raises:
        UserError: there is no sample, samples do not fit the inputs, or a tensor takes a NaN or an
            infinity.
    """
    tallies = _Tallies(model, tensors, means)
    specs = inputs_of(model)
    extremes: dict[str, tuple[float, float]] = {}
    samples, kept = 0, list[tuple[int, Arrays]]()
    progress = progress or Silent()

    with (
        Lookout(model, tensors, target, means, floored, tallies.listeners) as lookout,
        progress.task("observe", expected) as task,
        _Streams(lookout, tallies.count) as streams,
    ):
        for batch in feeds:
            check_feeds(batch, specs, _WHERE)
            for sample in _split(batch, specs):
                _widen(extremes, sample)
                number = digest(sample)
                streams.run(sample, number, samples)
                kept = _keep(kept, number, sample)
                rows = len(next(iter(sample.values()))) if sample else 1
                samples += rows
                task.advance(rows)
    if not samples:
        raise UserError("there are none", where=_WHERE, then="Give at least one, better 100")
    _check_lively(extremes)
    return tallies.observation(samples, tuple(sample for _, sample in kept))


class _Tallies:
    """All that is counted over the samples, in whatever order they come."""

    def __init__(
        self, model: ir.Model, tensors: Sequence[str], means: Collection[ChannelMean]
    ) -> None:
        self._model = model
        self._counters = {name: Counter() for name in tensors}
        self._sums = {mean: ExactSum() for mean in means}
        self._margins, answers = Collector(), answers_of(model)
        self.listeners = {} if answers is None else {answers: self._margins.add}

    def count(self, held: Sequence[Seen], number: int) -> None:
        """Of one sample, the one with that number."""
        for seen in held:
            _count(self._counters[seen.name], seen, number, self._model)
            for mean, array in seen.means.items():
                self._sums[mean].add(array)

    def observation(self, samples: int, kept: tuple[Arrays, ...]) -> Observation:
        """What came of all."""
        histograms = {name: one.histogram() for name, one in self._counters.items()}
        averages = {mean: one.mean() for mean, one in self._sums.items() if one.count}
        return Observation(histograms, samples, kept, averages, self._margins.margins())


def _keep(kept: list[tuple[int, Arrays]], number: int, sample: Arrays) -> list[tuple[int, Arrays]]:
    """With one sample more, if its digest is among the smallest; of a batch nothing else is held.

    What is left out once would be left out at the end too, so the order leaves no trace.
    """
    if len(kept) >= KEPT and number >= kept[-1][0]:
        return kept
    own = {name: array.copy() for name, array in sample.items()}
    kept = sorted([*kept, (number, own)], key=itemgetter(0))[:KEPT]
    sizes = [sum(array.nbytes for array in one.values()) for _, one in kept]
    fits = bisect_right(list(accumulate(sizes)), KEPT_BYTES)
    return kept[: max(fits, PROBES)]


class _Streams:
    """Runs samples in threads of their own, and counts those that are done in this one, in order."""

    def __init__(self, lookout: Lookout, count: Callable[[Sequence[Seen], int], None]) -> None:
        self._lookout, self._count = lookout, count
        self._pool: ThreadPoolExecutor | None = None
        self._streams = 1
        self._running = deque[tuple[Future[list[Seen]], int]]()

    def run(self, sample: Arrays, start: int, number: int) -> None:
        """Start on a sample; what went wrong in one before is raised here."""
        if self._pool is None:
            self._streams = self._lookout.divide(sample)
            self._pool = ThreadPoolExecutor(self._streams)
        while len(self._running) > self._streams:  # one waits, so that no thread does
            self._finish()
        # Its own arrays: the caller may fill the same ones with the next batch meanwhile.
        own = {name: array.copy() for name, array in sample.items()}
        future = self._pool.submit(lambda: list(self._lookout(own, start)))
        self._running.append((future, number))

    def _finish(self) -> None:
        future, number = self._running.popleft()
        self._count(future.result(), number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            while kind is None and self._running:
                self._finish()
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)


def _split(batch: Arrays, specs: Sequence[TensorSpec]) -> Iterator[Arrays]:
    """Single samples, or the batch itself where the model's first dimension is a number."""
    if any(not spec.shape or isinstance(spec.shape[0], int) for spec in specs):
        yield batch
        return
    sizes = {len(array) for array in batch.values()}
    if len(sizes) != 1:
        raise UserError(f"inputs of one batch have {sorted(sizes)} samples", where=_WHERE)
    for i in range(sizes.pop()):
        yield {name: array[i : i + 1] for name, array in batch.items()}


def _widen(extremes: dict[str, tuple[float, float]], sample: Arrays) -> None:
    """Note the smallest and the largest value of every float input that has many."""
    for name, array in sample.items():
        if array.dtype.kind == "f" and array.size > _SINGLE:
            low, high = extremes.get(name, (math.inf, -math.inf))
            extremes[name] = min(low, float(array.min())), max(high, float(array.max()))


def _check_lively(extremes: Mapping[str, tuple[float, float]]) -> None:
    dead = [name for name, (low, high) in extremes.items() if low == high]
    if dead and len(dead) == len(extremes):
        raise UserError(
            f"every value of input '{dead[0]}' is {extremes[dead[0]][0]:g}",
            where=_WHERE,
            then="Give real samples: ranges that come from a constant fit nothing else",
        )


def _count(counter: Counter, seen: Seen, number: int, model: ir.Model) -> None:
    try:
        counter.add_picked(seen.picked, seen.low, seen.high, seen.size)
    except NotFiniteError as error:
        raise UserError(
            f"{_origin(seen.name, model)} holds {error} at sample {number}",
            where=_WHERE,
            then="Check that sample, its preprocessing and the model's weights",
        ) from None


def _origin(name: str, model: ir.Model) -> str:
    for node in model.graph:
        if any(output.name == name for output in node.outputs):
            return f"tensor '{name}', from {node.op_type} '{name_of(node)}',"
    return f"input '{name}'"
