"""Timing several models in turns, so that what disturbs one disturbs them all.

A *round* opens fresh sessions of all models; where memory happens to lie changes speed by percents,
so the round, not the call, is what later counts as one observation.  Within a round the models take
turns in *blocks*: A B B A, or B A A B, so that a slow drift of the machine cancels.  A turn is a
*slot* of many calls.  (Kalibera and Jones, ISMM 2013; Laaber et al., EMSE 2019.)
"""

from __future__ import annotations

import gc
import itertools
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from deploypipe.core.errors import UserError
from deploypipe.core.progress import Progress, Silent
from deploypipe.runtime import Feeds
from deploypipe.validate.memory import peak_growth

Opener = Callable[[], AbstractContextManager[Callable[[Feeds], Any]]]
"""Gives a fresh model each time: a context manager around a session or any callable."""

Clock = Callable[[], int]
"""Nanoseconds that only go up."""

LEAST_ROUNDS = 3
"""Rounds that a budget of time cannot take away: fewer carry no interval worth the name."""


@dataclass(frozen=True)
class Pace:
    """How long things take.

    ``rounds`` of fresh sessions are the observations of an interval; each has ``blocks`` ABBA or
    BAAB blocks.  The budget of seconds ends rounds and blocks early, by the clock alone, never by
    what was measured, and never before three rounds of one block each.
    """

    rounds: int = 5
    blocks: int = 4
    budget_seconds: float = 120.0
    slot_seconds: float = 0.015
    slot_calls: int = 2000
    warm_seconds: float = 0.3
    warm_calls: int = 10
    least_calls: int = 1

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.blocks < 1 or self.budget_seconds <= 0:
            raise ValueError(
                f"rounds, blocks and budget must be positive, got {self.rounds}, {self.blocks}, "
                f"{self.budget_seconds}"
            )


@dataclass(frozen=True)
class Turns:
    """Labels that take turns in a block, each for ``share`` of a full slot."""

    labels: tuple[str, ...]
    share: float = 1.0


@dataclass(frozen=True)
class Block:
    """Turns of some models, there and back: ``order`` is told, ``times`` are ms of every call."""

    order: tuple[str, ...]
    times: Mapping[str, tuple[float, ...]]

    def log_ratio(self, label: str, base: str) -> float:
        """log(median of ``label`` / median of ``base``)."""
        return math.log(statistics.median(self.times[label]) / statistics.median(self.times[base]))


@dataclass(frozen=True)
class Start:
    """A model's way to its first answer; ``peak_bytes`` is how far memory grew on it."""

    open_ms: float
    first_ms: float
    peak_bytes: int | None


@dataclass(frozen=True)
class Round:
    """Blocks over one set of fresh sessions, which were ``opened`` in this order."""

    opened: tuple[str, ...]
    blocks: tuple[Block, ...]
    starts: Mapping[str, Start]
    environments: Mapping[str, Mapping[str, Any]]

    @property
    def cold_ms(self) -> dict[str, float]:
        """Opening plus the first answer."""
        return {label: start.open_ms + start.first_ms for label, start in self.starts.items()}

    def times(self, label: str) -> Iterator[float]:
        """All times of one model in ms."""
        return itertools.chain.from_iterable(block.times.get(label, ()) for block in self.blocks)

    def median(self, label: str) -> float:
        """Median time of one model in ms."""
        return statistics.median(self.times(label))

    def log_ratio(self, label: str, base: str) -> float:
        """Mean of the middle half of the blocks' log ratios: a neighbour disturbs single blocks."""
        shared = [b for b in self.blocks if label in b.times and base in b.times]
        ratios = sorted(block.log_ratio(label, base) for block in shared)
        cut = len(ratios) // 4
        return statistics.fmean(ratios[cut : len(ratios) - cut])


def interleave(
    openers: Mapping[str, Opener],
    feeds: Sequence[Feeds],
    groups: Sequence[Turns],
    pace: Pace,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    clock: Clock = time.perf_counter_ns,
) -> list[Round]:
    """Time the models of ``openers`` in turns.

    Args:
        openers: Label -> opener; each is opened once a round.
        feeds: Inputs, prepared before the clock starts and rotated over the calls.
        groups: The blocks of one round; their order is drawn by ``seed``.
        pace: Rounds, lengths and the budget of time.
        seed: Of the order of blocks and turns.
        progress: Told after every round.
        clock: For tests.
    """
    if not feeds:
        raise UserError("there is no input to time with", then="Give at least one batch")
    generator, started, rounds = random.Random(seed), clock(), []
    with no_garbage_collection(), (progress or Silent()).task("time", pace.rounds) as task:
        for index in range(pace.rounds):
            labels = list(openers)[:: 1 if index % 2 == 0 else -1]
            began = clock()
            ordered = {label: openers[label] for label in labels}
            rounds.append(one_round(ordered, feeds, groups, pace, generator, clock))
            task.advance(1, _note(rounds[-1]))
            now = clock()
            if (
                index + 1 >= LEAST_ROUNDS
                and (2 * now - began - started) / 1e9 > pace.budget_seconds
            ):
                break
    return rounds


def one_round(
    openers: Mapping[str, Opener],
    feeds: Sequence[Feeds],
    groups: Sequence[Turns],
    pace: Pace,
    generator: random.Random,
    clock: Clock = time.perf_counter_ns,
    at_work: Callable[[str], object] = bool,
) -> Round:
    """Open the models in the order given, warm them up, and time the blocks of one round.

    ``at_work`` is told whose turn it is, outside of what is timed.
    """
    ends = clock() + int(pace.budget_seconds / pace.rounds * 1e9)
    with no_garbage_collection(), ExitStack() as stack:
        runners = {
            label: _Runner(stack, opener, feeds, clock, partial(at_work, label))
            for label, opener in openers.items()
        }
        for runner in runners.values():
            runner.warm_up(pace, len(runners))
        needed, more = _shuffled(groups, generator)
        blocks = [_block(group, runners, generator) for group in needed]
        for group in more:
            if clock() < ends:
                blocks.append(_block(group, runners, generator))  # noqa: PERF401 (takes time)
        return Round(
            opened=tuple(openers),
            blocks=tuple(blocks),
            starts={label: runner.start for label, runner in runners.items()},
            environments={label: runner.environment for label, runner in runners.items()},
        )


def _shuffled(groups: Sequence[Turns], generator: random.Random) -> tuple[list[Turns], list[Turns]]:
    """Each kind of block once, then the others: the budget may only take from the others."""
    needed = list(dict.fromkeys(groups))
    more = list(groups)
    for group in needed:
        more.remove(group)
    generator.shuffle(needed)
    generator.shuffle(more)
    return needed, more


def _block(turns: Turns, runners: Mapping[str, _Runner], generator: random.Random) -> Block:
    there = list(turns.labels)
    generator.shuffle(there)
    order = (*there, *reversed(there))
    times: dict[str, list[float]] = {label: [] for label in turns.labels}
    for label in order:
        times[label] += runners[label].slot(turns.share)
    return Block(order, {label: tuple(values) for label, values in times.items()})


@dataclass
class _Runner:
    """One open model and how many of its calls fill a slot."""

    stack: ExitStack
    opener: Opener
    feeds: Sequence[Feeds]
    clock: Clock
    at_work: Callable[[], object]
    calls: int = 1
    environment: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.at_work()
        with peak_growth() as growth:
            began = self.clock()
            model = self.stack.enter_context(self.opener())
            opened = self.clock()
            model(self.feeds[0])
            answered = self.clock()
        self.start = Start((opened - began) / 1e6, (answered - opened) / 1e6, growth())
        self._turn = itertools.cycle([_prepare(model, feed) for feed in self.feeds])
        self.environment = dict(getattr(model, "environment", {}))

    def warm_up(self, pace: Pace, sharers: int) -> None:
        """Call for a while and learn how many calls fill a slot; a quarter of a round at most."""
        most = pace.budget_seconds / pace.rounds / 4 / sharers
        self.at_work()
        began, times = self.clock(), list[float]()
        while True:
            times += self._time(1)
            passed = (self.clock() - began) / 1e9
            warm = len(times) >= pace.warm_calls and passed >= pace.warm_seconds
            if warm or (len(times) >= 2 and passed >= most):
                break
        seconds = statistics.median(times[len(times) // 2 :]) / 1e3
        fill = math.ceil(pace.slot_seconds / seconds)
        self.calls = max(1, min(pace.slot_calls, max(pace.least_calls, fill)))

    def slot(self, share: float) -> list[float]:
        """Milliseconds of every call of one slot."""
        self.at_work()
        return self._time(max(1, round(self.calls * share)))

    def _time(self, count: int) -> list[float]:
        clock, taken = self.clock, [0] * count
        for i, run in enumerate(itertools.islice(self._turn, count)):
            began = clock()
            run()
            taken[i] = clock() - began
        return [max(1, nanoseconds) / 1e6 for nanoseconds in taken]


def _prepare(model: Callable[[Feeds], Any], feed: Feeds) -> Callable[[], object]:
    """The bare call on one feed, which is checked, converted and on its device before."""
    prepare = getattr(model, "prepare_on_device", getattr(model, "prepare", None))
    return prepare(feed) if prepare is not None else partial(model, feed)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect now, and not in the block; a block inside the block is free.

    With torch loaded one collection takes half a second, too much for every round.
    """
    if not gc.isenabled():
        yield
        return
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _note(last: Round) -> str:
    return ", ".join(f"{label} {last.median(label):.3g} ms" for label in sorted(last.opened))
