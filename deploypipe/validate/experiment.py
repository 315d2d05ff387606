"""Two models, measured round by round for as long as a question about them is open.

A round is one observation: a fresh process where that can be, else fresh sessions in this one.  In
its blocks three models take turns: the reference, the candidate, and the reference once more, whose
distance from itself is what this host can make of nothing.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from deploypipe.core.errors import UserError
from deploypipe.core.progress import Progress, Silent
from deploypipe.runtime import Feeds
from deploypipe.runtime.host import gpu_clocks
from deploypipe.validate.interleave import (
    LEAST_ROUNDS,
    Clock,
    Opener,
    Pace,
    Round,
    Turns,
    no_garbage_collection,
    one_round,
)
from deploypipe.validate.latency import (
    CANDIDATE,
    REFERENCE,
    TWIN,
    LatencyComparison,
    compared,
    observation,
)
from deploypipe.validate.looks import Decision, Looks, Need, Run, decide

LABELS = (REFERENCE, CANDIDATE, TWIN)
SHORTEST, LONGEST = 10.0, 120.0
"""Seconds for a decision on models below one millisecond, and of twelve or more."""

FIRST_SHARE = 0.6
"""Of the time, for the first run; the rest is kept to confirm a failure."""

LEAST_ROUND_SECONDS = 0.6

Take = Callable[[Sequence[str], Sequence[Turns], Pace, str], Round]
"""Measures one round: the labels in the order of opening, the blocks, the pace, the seed."""


@dataclass(frozen=True)
class Plan:
    """How much is measured for one decision.

    ``seconds`` is an upper bound, never reached where the first look decides; None takes 10 s for a
    model below 1 ms, 10 s more for each further one, at most 120.  A block is there and back over
    three models, in slots of ``slot_seconds`` but at least ``slot_calls`` calls: many short ones,
    since what disturbs a machine lasts longer than they do, and then meets all three.
    """

    looks: Looks = Looks()
    seconds: float | None = None
    blocks: int = 48
    slot_seconds: float = 0.0006
    slot_calls: int = 2

    def __post_init__(self) -> None:
        if self.blocks < 1 or (self.seconds is not None and not 0 < self.seconds < math.inf):
            raise ValueError(
                f"blocks and seconds must be positive, got {self.blocks}, {self.seconds}"
            )

    def pace(self, seconds: float) -> Pace:
        """The pace of one round of a decision of so many seconds."""
        most = seconds / 2 / self.looks.counts[-1]
        return Pace(
            rounds=1,
            blocks=self.blocks,
            budget_seconds=max(most, LEAST_ROUND_SECONDS if seconds >= SHORTEST else 0.0),
            slot_seconds=self.slot_seconds,
            least_calls=self.slot_calls,
            warm_seconds=min(0.5, seconds / 333),
        )


@dataclass
class Experiment:
    """Rounds of two models, which grow as questions need them.

    ``take`` measures; ``where`` says what is fresh for each round: ``process`` or ``session``.
    ``expect`` is told, while nothing is measured, how many rounds come next.
    """

    take: Take
    batch: int | None
    where: str
    plan: Plan = field(default_factory=Plan)
    seed: int = 0
    progress: Progress = field(default_factory=Silent)
    expect: Callable[[int], object] = bool
    clock: Clock = time.perf_counter_ns
    first: list[Round] = field(default_factory=list)
    again: list[Round] = field(default_factory=list)
    clocks: list[list[str]] = field(default_factory=list)
    longest: float = 0.0
    starting: float = 0.0

    def decide(self, limit: float, *, began: int | None = None) -> Decision:
        """Whether candidate / reference is below ``limit``; measures until that is answered.

        ``began`` is when the clock of this decision started; now if not given.
        """
        if not limit > 0:
            raise UserError(f"a limit on a ratio of times must be positive, got {limit:g}")
        began = self.clock() if began is None else began
        self.clocks.append(gpu_clocks())
        with (
            no_garbage_collection(),
            self.progress.task("time", 1.0) as task,
        ):
            started, told = self.clock(), 0.0
            while isinstance(found := self._so_far(limit, began), Need):
                for _ in self._rounds(found, began):
                    share = self._share(began, started)
                    task.advance(max(share - told, 0.0), _note(self.first[-1]))
                    told = max(share, told)
        self.expect(0)
        self.clocks.append(gpu_clocks())
        return found

    def _share(self, began: int, started: int) -> float:
        """Of the time that was left at ``started``, how much is gone."""
        now = self.clock()
        left = self._seconds() - (started - began) / 1e9
        return 1.0 if left <= 0 else min((now - started) / 1e9 / left, 1.0)

    def measure(self, rounds: int) -> None:
        """Have at least ``rounds`` of the first run, or as many as the time allows."""
        began = self.clock()
        with no_garbage_collection(), self.progress.task("time", rounds) as task:
            for _ in self._rounds(Need("first", rounds), began):
                task.advance(1, _note(self.first[-1]))
        self.expect(0)

    def _rounds(self, need: Need, began: int) -> Iterator[None]:
        """Measure what is needed, as far as the time goes."""
        rounds: list[Round] = getattr(self, need.run)
        if need.run == "again" and not rounds:
            self.expect(0)  # what waits comes from the first run's process: confirm off another
        self._start(min(need.observations - len(rounds), self._room(need.run, began)))
        while len(rounds) < need.observations and self._room(need.run, began, 0.0) > 0:
            self._measure(need.run)
            yield

    def _start(self, count: int) -> None:
        """Let ``take`` prepare for so many rounds, and learn how long that takes for one."""
        before = self.clock()
        self.expect(count)
        if count > 0:
            self.starting = max(self.starting, (self.clock() - before) / 1e9 / count)

    def comparison(self) -> LatencyComparison:
        """All that was measured; the first look's worth of rounds if nothing was yet."""
        if not self.first:
            self.measure(self.plan.looks.counts[0])
        return compared(
            self.first,
            self.again,
            looks=self.plan.looks,
            batch=self.batch,
            seed=self.seed,
            fresh=self.where,
            gpu_clocks=[line for lines in self.clocks for line in lines],
        )

    def _so_far(self, limit: float, began: int) -> Decision | Need:
        return decide(
            [observation(one) for one in self.first],
            [observation(one) for one in self.again],
            limit,
            self.plan.looks,
            first_ended=self._room("first", began) == 0,
            again_ended=self._room("again", began) == 0,
        )

    def _room(self, run: Run, began: int, starting: float | None = None) -> int:
        """How many rounds the clock leaves time for; three are always taken.

        The time of one more is kept, for one that takes longer than all before.
        """
        rounds: list[Round] = getattr(self, run)
        share = FIRST_SHARE if run == "first" else 1.0
        left = share * self._seconds() - (self.clock() - began) / 1e9 - self.longest
        each = self.longest + (self.starting if starting is None else starting)
        fit = int(left / each) if each > 0 else self.plan.looks.counts[-1]
        return max(fit, LEAST_ROUNDS - len(rounds), 0)

    def _seconds(self) -> float:
        if self.plan.seconds is not None:
            return self.plan.seconds
        if not self.first:
            return 60.0
        return seconds_for(max(self.first[0].median(label) for label in (REFERENCE, CANDIDATE)))

    def _measure(self, run: Run) -> None:
        rounds: list[Round] = getattr(self, run)
        name = f"{self.seed}/{run}/{len(rounds)}"
        groups = [Turns(LABELS)] * self.plan.blocks
        began = self.clock()
        pace = self.plan.pace(self._seconds())
        rounds.append(self.take(_order(len(rounds), name), groups, pace, name))
        self.longest = max(self.longest, (self.clock() - began) / 1e9)


def seconds_for(milliseconds: float) -> float:
    """Of one decision on a model of this latency."""
    return min(LONGEST, max(SHORTEST, SHORTEST * milliseconds))


def here(openers: Mapping[str, Opener], feeds: Sequence[Feeds], clock: Clock) -> Take:
    """Rounds with fresh sessions, or the callables as they are, in this process."""
    if not feeds:
        raise UserError("there is no input to time with", then="Give at least one batch")

    def take(opened: Sequence[str], groups: Sequence[Turns], pace: Pace, seed: str) -> Round:
        ordered = {label: openers[label] for label in opened}
        return one_round(ordered, feeds, groups, pace, random.Random(seed), clock)

    return take


def _order(index: int, seed: str) -> list[str]:
    """Reference and candidate are opened first in turns, the others in a drawn order."""
    first = LABELS[index % 2]
    rest = [label for label in LABELS if label != first]
    random.Random(f"{seed}/open").shuffle(rest)
    return [first, *rest]


def _note(last: Round) -> str:
    pairs = ((label, last.median(label)) for label in (REFERENCE, CANDIDATE))
    return ", ".join(f"{label} {ms:.3g} ms" for label, ms in pairs)
