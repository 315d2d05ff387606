"""Latency of models against each other: a ratio with its interval, from interleaved rounds."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from deploypipe.core.errors import UserError
from deploypipe.core.files import Json
from deploypipe.core.progress import Progress
from deploypipe.runtime import Feeds, host
from deploypipe.validate.alone import alone
from deploypipe.validate.interleave import (
    Clock,
    Opener,
    Pace,
    Round,
    Start,
    Turns,
    interleave,
)
from deploypipe.validate.interval import Interval
from deploypipe.validate.looks import Looks, Observation
from deploypipe.validate.measurement import Measurement
from deploypipe.validate.student import mean_interval

CONFIDENCE = 0.99
REFERENCE, CANDIDATE, TWIN = "reference", "candidate", "twin"
DEFAULT_PACE = Pace()

RAW_LIMIT = 2000
"""Raw times of a side that go into a report; evenly picked where there are more."""


@dataclass(frozen=True)
class LatencyComparison:
    """Two models in turns.  ``ratio`` is candidate / reference: below 1 the candidate is faster.

    ``aa_half_width`` is how far the interval of the reference against a second session of itself
    reaches from 1: what this host can make of nothing.  ``rounds`` were measured in fresh
    processes or sessions, as ``fresh`` says, and ``again`` to confirm a failure.  ``looks`` is the
    rule by which they may be judged; without one, all rounds were planned and are looked at once.
    ``gpu_clocks`` are those of NVIDIA GPUs before and after, if there are any.
    """

    reference: Measurement
    candidate: Measurement
    ratio: Interval
    aa_half_width: float
    rounds: tuple[Round, ...] = field(repr=False)
    batch: int | None
    seed: int
    again: tuple[Round, ...] = field(default=(), repr=False)
    looks: Looks | None = None
    fresh: str = "session"
    gpu_clocks: tuple[str, ...] = ()

    @property
    def speedup(self) -> Interval:
        """reference / candidate: above 1 the candidate is faster."""
        return self.ratio.inverse()

    def cold_ms(self, label: str) -> list[float]:
        """Opening plus the first answer of ``reference`` or ``candidate``, one a round."""
        return [one.cold_ms[label] for one in self.rounds]

    def start(self, label: str) -> dict[str, Json]:
        """Medians of opening, first answer and peak memory, where the model was opened first.

        What is opened later finds caches warm and freed memory to use again.
        """
        firsts = [one for one in self.rounds if one.opened[0] == label] or self.rounds
        return _start([one.starts[label] for one in firsts])

    def to_json(self) -> dict[str, Json]:
        """The ``latency`` section of a report."""
        return {
            "threads": self.candidate.environment.get("threads"),
            "batch": self.batch,
            "ratio": self.ratio.value,
            "low": _finite(self.ratio.low),
            "high": _finite(self.ratio.high),
            "speedup": self.speedup.value,
            "confidence": self.ratio.confidence,
            "rounds": len(self.rounds),
            "blocks": sum(len(one.blocks) for one in self.rounds),
            "seed": self.seed,
            "reference_ms": self.reference.thinned(RAW_LIMIT),
            "candidate_ms": self.candidate.thinned(RAW_LIMIT),
            "reference_cold_ms": self.cold_ms(REFERENCE),
            "candidate_cold_ms": self.cold_ms(CANDIDATE),
            "aa_half_width": _finite(self.aa_half_width),
            "fresh": self.fresh,
            "reference_latency_ms": self.reference.summary(),
            "candidate_latency_ms": self.candidate.summary(),
            "reference_start": self.start(REFERENCE) if self.rounds else None,
            "candidate_start": self.start(CANDIDATE) if self.rounds else None,
            "gpu_clocks": list(self.gpu_clocks),
            **self._sequence(),
        }

    def _sequence(self) -> dict[str, Json]:
        """What the rule was, and every round's log ratios, of which all else follows."""
        if self.looks is None:
            return {}
        return {
            "looks": {"counts": list(self.looks.counts), "alpha": self.looks.alpha},
            "log_ratios": [vars(observation(one)) for one in self.rounds],
            "confirming_log_ratios": [vars(observation(one)) for one in self.again],
        }


@dataclass(frozen=True)
class Timing:
    """One model of several; ``ratio`` is to the first one, ``step`` to the one before; None for
    the first itself."""

    measurement: Measurement
    ratio: Interval | None
    step: Interval | None = None
    start: Mapping[str, Json] = field(default_factory=dict)
    """As :meth:`LatencyComparison.start`; empty beside other models, which warm the machine."""

    def to_json(self) -> dict[str, Json]:
        """The ``latency_ms`` and ``ratio`` of a ledger's row."""
        return {"latency_ms": self.measurement.summary(), "ratio": _ends(self.ratio)}

    def step_json(self) -> Json:
        """The ``step`` of a ledger's row."""
        return _ends(self.step)


def _ends(ratio: Interval | None) -> dict[str, Json] | None:
    if ratio is None:
        return None
    return {"value": ratio.value, "low": _finite(ratio.low), "high": _finite(ratio.high)}


def compare_latency(
    open_reference: Opener,
    open_candidate: Opener,
    feeds: Sequence[Feeds],
    pace: Pace = DEFAULT_PACE,
    *,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    progress: Progress | None = None,
    clock: Clock = time.perf_counter_ns,
) -> LatencyComparison:
    """Time two models in turns: ``pace.rounds`` times fresh sessions, ``pace.blocks`` blocks each.

    The interval is Student's on the rounds' mean log ratios.  A fifth of the time goes to the
    reference against a second session of itself.

    Args:
        open_reference: Opens a session (or any callable) that takes a feed.
        open_candidate: The same for the other model.
        feeds: Batches to rotate over; both models must take them.
        pace: How many rounds and blocks, and how long.
        confidence: Two-sided.
        seed: Of the order of turns.
        progress: Told after each round.
        clock: For tests.
    """
    openers = {REFERENCE: open_reference, CANDIDATE: open_candidate, TWIN: open_reference}
    groups = [Turns((REFERENCE, CANDIDATE))] * pace.blocks
    groups += [Turns((REFERENCE, TWIN), share=0.5)] * max(1, pace.blocks // 2)
    done = interleave(openers, feeds, groups, pace, seed=seed, progress=progress, clock=clock)
    return compared(done, confidence=confidence, batch=batch_size(feeds[0]), seed=seed)


def compared(
    rounds: Sequence[Round],
    again: Sequence[Round] = (),
    *,
    looks: Looks | None = None,
    confidence: float = CONFIDENCE,
    batch: int | None,
    seed: int,
    fresh: str = "session",
    gpu_clocks: Sequence[str] = (),
) -> LatencyComparison:
    """What rounds of the reference, the candidate and the twin come to."""
    guard = _ratio(rounds, TWIN, REFERENCE, confidence)
    told = confidence if looks is None else looks.confidence
    return LatencyComparison(
        reference=_measurement(rounds, REFERENCE),
        candidate=_measurement(rounds, CANDIDATE),
        ratio=_ratio(rounds, CANDIDATE, REFERENCE, told),
        aa_half_width=max(guard.high, 1 / guard.low if guard.low > 0 else math.inf) - 1,
        rounds=tuple(rounds),
        batch=batch,
        seed=seed,
        again=tuple(again),
        looks=looks,
        fresh=fresh,
        gpu_clocks=tuple(gpu_clocks),
    )


def observation(one: Round) -> Observation:
    """A round's two log ratios."""
    return Observation(one.log_ratio(CANDIDATE, REFERENCE), one.log_ratio(TWIN, REFERENCE))


def time_many(
    openers: Mapping[str, Opener],
    feeds: Sequence[Feeds],
    pace: Pace = DEFAULT_PACE,
    *,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    progress: Progress | None = None,
    clock: Clock = time.perf_counter_ns,
) -> dict[str, Timing]:
    """Time several models in turns, each against the first and against the one before; arguments
    as `compare_latency`.  Nobody else measures here meanwhile."""
    if not openers:
        raise UserError("there is no model to time")
    labels = tuple(openers)
    groups = [Turns(labels)] * pace.blocks
    with alone():
        done = interleave(openers, feeds, groups, pace, seed=seed, progress=progress, clock=clock)
    timings = {labels[0]: Timing(_measurement(done, labels[0]), None)}
    for before, label in pairwise(labels):
        ratio, step = (_ratio(done, label, base, confidence) for base in (labels[0], before))
        timings[label] = Timing(_measurement(done, label), ratio, step)
    return timings


def _start(starts: Sequence[Start]) -> dict[str, Json]:
    peaks = [start.peak_bytes for start in starts if start.peak_bytes is not None]
    return {
        "open_ms": statistics.median(start.open_ms for start in starts),
        "first_ms": statistics.median(start.first_ms for start in starts),
        "peak_bytes": int(statistics.median(peaks)) if peaks else None,
        "n": len(starts),
    }


def timing_of(rounds: Sequence[Round], label: str) -> Timing:
    """A model that was timed alone."""
    start = _start([one.starts[label] for one in rounds])
    return Timing(_measurement(rounds, label), None, start=start)


def batch_size(feed: Feeds) -> int | None:
    """First dimension of the first input; None for a scalar or no input."""
    shape = next((array.shape for array in feed.values()), ())
    return int(shape[0]) if shape else None


def _measurement(rounds: Sequence[Round], label: str) -> Measurement:
    values = tuple(ms for one in rounds for ms in one.times(label))
    environment: dict[str, Any] = {**rounds[0].environments[label], "host": host()}
    return Measurement(label, "ms", values, environment)


def _ratio(rounds: Sequence[Round], label: str, base: str, confidence: float) -> Interval:
    logs = [one.log_ratio(label, base) for one in rounds]
    return mean_interval(logs, confidence).map(_exp)


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))  # one round has an unbounded interval


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) and value < 1e300 else None
