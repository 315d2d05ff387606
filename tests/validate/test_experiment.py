"""Measuring for as long as a question is open, on a clock that we wind."""

import random

import pytest

from deploypipe.core.errors import UserError
from deploypipe.validate.experiment import Experiment, Plan, seconds_for
from deploypipe.validate.interleave import Block, Round, Start
from deploypipe.validate.judge_latency import decision_of, speedup_check
from deploypipe.validate.looks import Looks
from deploypipe.validate.workers import Crash


class Bench:
    """Rounds of a candidate with a given ratio; each takes a second of a clock of its own."""

    def __init__(self, ratio, spread=0.001, seconds=1.0, ms=1.0):
        self.ratio, self.spread, self.seconds, self.ms = ratio, spread, seconds, ms
        self.now, self.taken, self.paces, self.expected = 0, [], [], []
        self.random = random.Random(0)

    def clock(self):
        return self.now

    def take(self, opened, groups, pace, seed):
        self.now += int(self.seconds * 1e9)
        self.taken.append((tuple(opened), seed))
        self.paces.append(pace)
        wobble = [1 + self.spread * (-1) ** len(self.taken) * sign for sign in (1, -1)]
        times = {"reference": self.ms, "candidate": self.ms * self.ratio * wobble[0]}
        times["twin"] = self.ms * wobble[1]
        order = ("reference", "candidate", "twin", "twin", "candidate", "reference")
        block = Block(order, {label: (value,) * 2 for label, value in times.items()})
        starts = {label: Start(5.0, 1.0, 1000) for label in opened}
        return Round(tuple(opened), (block,), starts, {label: {"threads": 1} for label in opened})

    def experiment(self, **plan):
        return Experiment(
            self.take, 1, "process", Plan(**plan), clock=self.clock, expect=self.expected.append
        )


def test_equal_models_take_one_look():
    bench = Bench(1.0)
    told = bench.experiment(seconds=100).decide(1.05)
    assert told.outcome == "PASS"
    assert len(bench.taken) == 5


def test_a_slower_model_is_measured_again_from_scratch():
    bench = Bench(1.2)
    experiment = bench.experiment(seconds=100)
    assert experiment.decide(1.05).outcome == "FAIL"
    assert (len(experiment.first), len(experiment.again)) == (5, 10)
    assert len({seed for _, seed in bench.taken}) == 15


def test_a_close_call_takes_more_rounds():
    bench = Bench(1.04, spread=0.008)
    told = bench.experiment(seconds=100).decide(1.05)
    assert len(bench.taken) == told.looks[-1].observations
    assert told.looks[-1].observations > 5


def test_a_second_question_uses_what_was_measured_for_the_first():
    bench = Bench(0.5)
    experiment = bench.experiment(seconds=100)
    assert experiment.decide(1 / 1.8).outcome == "PASS"
    assert experiment.decide(1.05).outcome == "PASS"
    assert len(bench.taken) == 5


def test_the_clock_ends_a_run_but_not_before_three_rounds():
    bench = Bench(1.05, spread=0.02, seconds=10)
    told = bench.experiment(seconds=20).decide(1.05)
    assert told.outcome == "UNDECIDED"
    assert len(bench.taken) == 3


def test_the_whole_decision_ends_in_time_even_with_a_failure_to_confirm():
    bench = Bench(1.09, spread=0.015)
    bench.experiment(seconds=20).decide(1.05)
    assert bench.now / 1e9 <= 20


def test_a_slow_model_gets_more_time_and_a_small_one_ten_seconds():
    assert (seconds_for(0.2), seconds_for(5.0), seconds_for(500)) == (10, 50, 120)
    bench = Bench(1.0, ms=5.0)
    bench.experiment().decide(1.05)
    assert bench.paces[-1].warm_seconds > Bench(1.0).experiment().plan.pace(10).warm_seconds


def test_reference_and_candidate_are_opened_first_in_turns():
    bench = Bench(1.0)
    bench.experiment(seconds=100).decide(1.05)
    assert [opened[0] for opened, _ in bench.taken[:4]] == ["reference", "candidate"] * 2
    assert {frozenset(opened) for opened, _ in bench.taken} == {
        frozenset(("reference", "candidate", "twin"))
    }


def test_processes_are_told_ahead_and_let_go_before_a_failure_is_confirmed_and_at_the_end():
    bench = Bench(1.2)
    bench.experiment(seconds=100).decide(1.05)
    assert bench.expected == [5, 0, 10, 0]


def test_the_judge_comes_to_the_same_answer_from_the_record():
    for ratio in (1.0, 1.2, 1.04):
        experiment = Bench(ratio, spread=0.004).experiment(seconds=100)
        told = experiment.decide(1.05)
        comparison = experiment.comparison()
        assert speedup_check(comparison, 1 / 1.05).outcome == told.outcome
        assert decision_of(comparison, 1 / 1.05) == told


def test_the_record_holds_every_observation_and_the_rule():
    experiment = Bench(1.2).experiment(seconds=100)
    experiment.decide(1.05)
    told = experiment.comparison().to_json()
    assert told["fresh"] == "process"
    assert told["looks"] == {"counts": [5, 10, 20], "alpha": 0.005}
    assert (len(told["log_ratios"]), len(told["confirming_log_ratios"])) == (5, 10)
    assert told["candidate_start"] == {
        "open_ms": 5.0, "first_ms": 1.0, "peak_bytes": 1000, "n": 2,
    }  # fmt: skip


def test_without_a_question_the_first_look_is_measured():
    bench = Bench(1.0)
    assert len(bench.experiment(looks=Looks((3,))).comparison().rounds) == 3


@pytest.mark.parametrize(
    ("label", "outcome"),
    [("candidate", "FAIL"), ("reference", "UNDECIDED"), ("twin", "UNDECIDED")],
)
def test_a_crash_is_judged_by_who_crashed(label, outcome):
    crash = Crash(label, "was killed by SIGSEGV", "oh")
    check = speedup_check(crash, 1.0, "not slower")
    assert check.outcome == outcome
    assert f"the process of the {label} was killed by SIGSEGV; its last words: oh" in check.why


def test_a_candidate_that_never_answered_may_only_be_slow():
    crash = Crash("candidate", "gave no answer for 900 s", "", hung=True)
    assert speedup_check(crash, 1.0).outcome == "UNDECIDED"


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(UserError, match="must be positive"):
        Bench(1.0).experiment().decide(0.0)


@pytest.mark.parametrize("wrong", [{"blocks": 0}, {"seconds": 0}, {"seconds": float("inf")}])
def test_a_plan_of_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="must be positive"):
        Plan(**wrong)
