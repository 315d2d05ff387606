"""Interleaved timing: on a clock that we wind, and on real models."""

import gc
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest

from deploypipe.core.errors import UserError
from deploypipe.validate import latency
from deploypipe.validate.interleave import Pace, Turns, interleave
from deploypipe.validate.judge import speedup_check
from deploypipe.validate.latency import batch_size, compare_latency, time_many

FEEDS = [{"x": np.zeros((2, 3), np.float32)}]
QUICK = Pace(rounds=3, blocks=2, slot_seconds=0.004, warm_seconds=0.02)


class Watch:
    """A clock that only models wind."""

    def __init__(self):
        self.now = 0
        self.calls = []
        self.opened = []

    def __call__(self):
        return self.now

    def model(self, name, ms, drift=0.0):
        @contextmanager
        def opener():
            self.opened.append(name)

            def run(feed):
                self.calls.append(name)
                self.now += int(ms * 1e6 * (1 + drift * self.now / 1e9))

            yield run

        return opener


def test_the_ratio_of_steady_models_is_exact():
    watch = Watch()
    told = compare_latency(watch.model("a", 2), watch.model("b", 1), FEEDS, clock=watch)
    assert told.ratio.value == pytest.approx(0.5)
    assert (told.ratio.low, told.ratio.high) == pytest.approx((0.5, 0.5))
    assert told.speedup.value == pytest.approx(2)
    assert told.aa_half_width == pytest.approx(0)
    assert (told.reference.p50, told.candidate.p50) == (2, 1)


def test_a_drift_of_the_machine_cancels():
    watch = Watch()
    a, b = watch.model("a", 2, drift=0.05), watch.model("b", 2, drift=0.05)
    told = compare_latency(a, b, FEEDS, clock=watch)
    assert told.ratio.value == pytest.approx(1, abs=2e-4)
    assert told.reference.values[-1] > 1.1 * told.reference.values[0]


def test_every_round_opens_fresh_sessions_and_alternates_the_first():
    watch = Watch()
    told = compare_latency(
        watch.model("a", 1), watch.model("b", 1), FEEDS, Pace(rounds=4), clock=watch
    )
    assert len(watch.opened) == 4 * 3
    assert [one.opened[0] for one in told.rounds] == ["reference", "twin", "reference", "twin"]


def test_blocks_go_there_and_back_and_their_order_is_drawn():
    watch = Watch()
    a, b = watch.model("a", 1), watch.model("b", 1)
    told = compare_latency(a, b, FEEDS, Pace(blocks=8), clock=watch)
    orders = {block.order for one in told.rounds for block in one.blocks}
    assert all(order == order[::-1] and len(order) == 4 for order in orders)
    assert {("reference", "candidate", "candidate", "reference"),
            ("candidate", "reference", "reference", "candidate")} <= orders  # fmt: skip


def test_the_order_repeats_with_its_seed():
    def orders(seed):
        watch = Watch()
        a, b = watch.model("a", 10), watch.model("b", 10)
        told = compare_latency(a, b, FEEDS, clock=watch, seed=seed)
        return [block.order for one in told.rounds for block in one.blocks]

    assert orders(1) == orders(1)
    assert orders(1) != orders(2)


def test_a_slot_lasts_long_enough_for_either_model():
    watch = Watch()
    told = compare_latency(watch.model("a", 5), watch.model("b", 0.1), FEEDS, clock=watch)
    block = next(b for b in told.rounds[0].blocks if "candidate" in b.times)
    assert len(block.times["reference"]) == 2 * 3
    assert len(block.times["candidate"]) == 2 * 150


def test_the_guard_takes_about_a_fifth_of_the_time():
    watch = Watch()
    told = compare_latency(watch.model("a", 1), watch.model("b", 1), FEEDS, clock=watch)
    spent = {True: 0.0, False: 0.0}
    for block in (block for one in told.rounds for block in one.blocks):
        spent["twin" in block.times] += sum(map(sum, block.times.values()))
    assert 0.1 <= spent[True] / sum(spent.values()) <= 0.25


def test_the_first_answer_is_one_call_where_preparing_makes_another():
    class Checking:
        """Answers once to check a feed, as a session does."""

        def __init__(self, watch):
            self.run = watch

        def __call__(self, feed):
            self.run.now += 1_000_000

        def prepare(self, feed):
            self(feed)
            return lambda: self(feed)

    watch = Watch()
    (one, *_) = interleave(
        {"a": lambda: nullcontext(Checking(watch)), "b": watch.model("b", 1)},
        FEEDS * 2, [Turns(("a", "b"))], Pace(rounds=1, blocks=1), clock=watch,
    )  # fmt: skip
    assert (one.starts["a"].first_ms, one.starts["b"].first_ms) == (1, 1)


def test_several_models_are_timed_while_nobody_else_measures(monkeypatch):
    seen, watch = [], Watch()

    @contextmanager
    def alone():
        seen.append("begins")
        yield
        seen.append(len(watch.calls))

    monkeypatch.setattr(latency, "alone", alone)
    time_many({"a": watch.model("a", 2), "b": watch.model("b", 1)}, FEEDS, QUICK, clock=watch)
    assert seen == ["begins", len(watch.calls)]
    assert watch.calls


def test_warming_up_is_not_measured():
    watch = Watch()
    told = compare_latency(watch.model("a", 1), watch.model("b", 1), FEEDS, clock=watch)
    timed = told.reference.n + told.candidate.n
    assert timed < len(watch.calls)
    assert len(told.cold_ms("candidate")) == len(told.rounds)


def test_the_budget_ends_slow_models_after_three_rounds():
    watch = Watch()
    a, b = watch.model("a", 900), watch.model("b", 1000)
    told = compare_latency(a, b, FEEDS, Pace(budget_seconds=10), clock=watch)
    assert len(told.rounds) == 3
    assert all(len(one.blocks) == 2 for one in told.rounds)
    assert told.ratio.value == pytest.approx(10 / 9)


def test_a_generous_budget_ends_nothing():
    watch = Watch()
    told = compare_latency(watch.model("a", 1), watch.model("b", 1), FEEDS, clock=watch)
    assert len(told.rounds) == 5
    assert all(len(one.blocks) == 4 + 2 for one in told.rounds)


def test_inputs_are_rotated():
    seen = []

    @contextmanager
    def opener():
        yield lambda feed: seen.append(int(feed["x"][0]))

    feeds = [{"x": np.array([i])} for i in range(3)]
    interleave({"a": opener}, feeds, [Turns(("a",))], Pace(rounds=1, warm_seconds=0.0))
    assert seen[:6] == [0, 0, 1, 2, 0, 1]


def test_garbage_collection_is_off_while_timing_and_on_again_after():
    states = set()

    @contextmanager
    def opener():
        yield lambda feed: states.add(gc.isenabled())

    interleave({"a": opener}, FEEDS, [Turns(("a",))], Pace(rounds=1, warm_seconds=0.0))
    assert states == {False}
    assert gc.isenabled()


def test_sessions_are_closed_when_a_model_breaks():
    closed = []

    @contextmanager
    def opener():
        try:
            yield lambda feed: 1 / 0
        finally:
            closed.append(True)

    with pytest.raises(ZeroDivisionError):
        interleave({"a": opener}, FEEDS, [Turns(("a",))], Pace(rounds=1))
    assert closed
    assert gc.isenabled()


def test_several_models_are_timed_against_the_first():
    watch = Watch()
    models = {name: watch.model(name, ms) for name, ms in (("a", 4), ("b", 2), ("c", 1))}
    told = time_many(models, FEEDS, clock=watch)
    assert told["a"].ratio is None
    assert told["b"].ratio.value == pytest.approx(0.5)
    assert told["c"].to_json()["ratio"]["value"] == pytest.approx(0.25)
    assert told["c"].to_json()["latency_ms"]["p50"] == 1
    assert told["a"].step_json() is None and told["c"].step_json()["value"] == pytest.approx(0.5)


def test_one_model_can_be_timed_alone():
    watch = Watch()
    told = time_many({"only": watch.model("a", 3)}, FEEDS, clock=watch)
    assert told["only"].to_json() == {
        "latency_ms": {"p50": 3, "p90": 3, "p99": None, "n": 200},
        "ratio": None,
    }


def test_one_round_has_no_interval():
    watch = Watch()
    told = compare_latency(
        watch.model("a", 1), watch.model("b", 1), FEEDS, Pace(rounds=1), clock=watch
    )
    assert told.to_json()["high"] is None
    assert told.to_json()["aa_half_width"] is None
    assert speedup_check(told, 0.5).outcome == "UNDECIDED"


def test_no_input_is_a_mistake():
    with pytest.raises(UserError, match="no input to time with"):
        compare_latency(Watch().model("a", 1), Watch().model("b", 1), [])


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"blocks": 0}, {"budget_seconds": 0}])
def test_a_pace_of_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="must be positive"):
        Pace(**wrong)


def test_a_report_holds_a_bounded_number_of_raw_times():
    watch = Watch()
    pace = Pace(rounds=3, blocks=2, warm_seconds=0.01)
    a, b = watch.model("a", 0.02), watch.model("b", 0.02)
    told = compare_latency(a, b, FEEDS, pace, clock=watch)
    assert told.reference.n > 2000
    assert len(told.to_json()["reference_ms"]) == 2000
    assert told.to_json()["batch"] == 2


@pytest.mark.parametrize(("feed", "size"), [({"x": np.zeros((7, 2))}, 7), ({}, None)])
def test_the_batch_is_the_first_dimension(feed, size):
    assert batch_size(feed) == size


def test_twenty_times_the_work_is_found_slower(cpu, chain):
    long, short = chain(20), chain(1)
    feeds = [{"h0": np.ones((64, 64), np.float32)}]
    told = compare_latency(lambda: cpu.open(short), lambda: cpu.open(long), feeds, pace=QUICK)
    assert told.speedup.value < 0.5
    assert speedup_check(told, 1.0).outcome != "PASS"
    assert told.reference.environment["provider"] == "CPUExecutionProvider"
    assert "cpu" in told.reference.environment["host"]


def test_a_model_against_itself_is_not_found_slower(cpu, chain):
    model = chain(5)
    feeds = [{"h0": np.ones((64, 64), np.float32)}]
    told = compare_latency(lambda: cpu.open(model), lambda: cpu.open(model), feeds, pace=QUICK)
    assert speedup_check(told, 0.9).outcome != "FAIL"
    assert told.ratio.low <= 1.1
    assert told.ratio.high >= 0.9
