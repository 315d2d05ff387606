"""The rule of looks is pure: by hand, and ten thousand times on simulated hosts."""

import math

import numpy as np
import pytest

from deploypipe.validate.interval import Interval
from deploypipe.validate.looks import Decision, Look, Looks, Need, Observation, decide, look, weigh
from deploypipe.validate.verdict import Outcome

PASS, FAIL, UNDECIDED = Outcome.PASS, Outcome.FAIL, Outcome.UNDECIDED
LIMIT = 1.05
LOOKS = Looks()


def steady(ratio, count, spread=0.001, twin=0.001):
    """Observations around a ratio, alternately a little above and below."""
    return [
        Observation(math.log(ratio) + spread * (-1) ** i, twin * (-1) ** i) for i in range(count)
    ]


def noisy(ratio, count, spread=0.06):
    return steady(ratio, count, spread=spread)


def test_nothing_measured_asks_for_the_first_look():
    assert decide([], [], LIMIT, LOOKS) == Need("first", 5)


def test_equal_models_pass_at_the_first_look():
    told = decide(steady(1.0, 5), [], LIMIT, LOOKS)
    assert (told.outcome, len(told.looks)) == (PASS, 1)


def test_what_is_measured_beyond_a_look_does_not_count_before_the_next():
    first = [*steady(1.0, 5), *steady(1.5, 4)]
    assert decide(first, [], LIMIT, LOOKS).looks[0] == look(first[:5], LIMIT, LOOKS.confidence)


def test_an_open_first_look_asks_for_the_second_and_then_the_third():
    assert decide(noisy(1.05, 5), [], LIMIT, LOOKS) == Need("first", 10)
    assert decide(noisy(1.05, 19), [], LIMIT, LOOKS) == Need("first", 20)


def test_after_three_open_looks_it_is_undecided():
    told = decide(noisy(1.05, 20, 0.04), [], LIMIT, LOOKS)
    assert (told.outcome, [one.observations for one in told.looks]) == (UNDECIDED, [5, 10, 20])
    assert "the limit lies within" in told.why


def test_a_failure_asks_for_a_fresh_run_of_at_least_the_second_look():
    assert decide(steady(1.2, 5), [], LIMIT, LOOKS) == Need("again", 10)
    assert decide(steady(1.2, 5), steady(1.2, 9), LIMIT, LOOKS) == Need("again", 10)
    late = [*noisy(1.1, 10, 0.05), *steady(1.1, 10)]
    assert decide(late, [], LIMIT, LOOKS) == Need("again", 20)


def test_a_failure_that_repeats_is_one():
    told = decide(steady(1.2, 5), steady(1.2, 10), LIMIT, LOOKS)
    assert told.outcome is FAIL
    assert [one.run for one in told.looks] == ["first", "again"]
    assert "confirmed by a fresh run" in told.why


@pytest.mark.parametrize("second", [steady(1.0, 10), noisy(1.06, 10)])
def test_a_failure_that_does_not_repeat_is_undecided_and_both_runs_are_kept(second):
    told = decide(steady(1.2, 5), second, LIMIT, LOOKS)
    assert (told.outcome, len(told.looks)) == (UNDECIDED, 2)
    assert "a fresh run does not confirm it" in told.why
    assert told.ratio.value == pytest.approx(1.2, rel=0.01)


def test_a_failure_without_time_to_repeat_it_is_undecided():
    told = decide(steady(1.2, 5), [], LIMIT, LOOKS, again_ended=True)
    assert told.outcome is UNDECIDED
    assert "no time" in told.why


def test_a_run_that_the_clock_ended_is_looked_at_as_it_is():
    told = decide(noisy(1.0, 7, 0.04), [], LIMIT, LOOKS, first_ended=True)
    assert [one.observations for one in told.looks] == [5, 7]
    short = decide(steady(1.0, 3), [], LIMIT, LOOKS, first_ended=True)
    assert [one.observations for one in short.looks] == [3]


def test_a_noisy_host_is_undecided_however_slow_the_candidate_looks():
    first = [Observation(math.log(1.08), twin) for twin in (0.1, -0.1, 0.1, -0.1, 0.1)]
    told = decide(first * 4, [], LIMIT, LOOKS)
    assert told.outcome is UNDECIDED
    assert "noisy host: the reference against itself" in told.why


def test_noise_is_measured_against_what_is_to_be_told():
    ratio = Interval(3.0, 2.9, 3.1, 0.99)
    assert weigh(ratio, 0.2, LIMIT)[0] is FAIL
    assert weigh(Interval(1.0, 0.99, 1.01, 0.99), 0.2, LIMIT)[0] is UNDECIDED
    assert weigh(ratio, math.inf, LIMIT)[0] is UNDECIDED


def test_a_claim_of_speed_needs_the_upper_bound_of_the_ratio():
    limit = 1 / 1.8
    assert weigh(Interval(1 / 2.2, 1 / 2.3, 1 / 2.1, 0.99), 0.01, limit)[0] is PASS
    assert weigh(Interval(1 / 1.9, 1 / 2.1, 1 / 1.75, 0.99), 0.01, limit)[0] is UNDECIDED
    assert weigh(Interval(1 / 1.5, 1 / 1.55, 1 / 1.45, 0.99), 0.01, limit)[0] is FAIL


@pytest.mark.parametrize(
    "wrong", [{"counts": ()}, {"counts": (1,)}, {"counts": (5, 5)}, {"counts": (2, 3, 4, 5)},
              {"alpha": 0}, {"alpha": 0.5}],
)  # fmt: skip
def test_looks_that_are_no_plan_are_refused(wrong):
    with pytest.raises(ValueError, match="looks"):
        Looks(**wrong)


def test_the_risk_is_shared_by_the_looks():
    assert Looks((5, 10, 20), 0.006).confidence == pytest.approx(1 - 2 * 0.002)
    assert Looks((5,), 0.005).confidence == pytest.approx(0.99)
    assert Looks.after(3).counts == (3, 6, 12)


def test_a_decision_is_json_with_every_look():
    told = decide(steady(1.2, 5), steady(1.2, 10), LIMIT, LOOKS).to_json()
    assert told["outcome"] == "FAIL"
    assert [one["processes"] for one in told["looks"]] == [5, 10]


def host(rng, ratio, trials, process=0.007, block=0.02, burst=0.1, drift=0.03):
    """[trials, 40] observations: noise of the process, of 24 blocks, bursts and a drift that pairs.

    A drift over the blocks stays in as far as a there-and-back block does not cancel it.
    """
    shape = (trials, 40, 24)
    logs = rng.normal(0, block, (2, *shape))
    logs += np.where(rng.random((2, *shape)) < burst, rng.exponential(0.2, (2, *shape)), 0.0)
    logs += drift / 24**2 * np.cumsum(rng.normal(0, 1, (2, *shape)), axis=-1)
    middle = np.sort(logs, axis=-1)[..., 6:18].mean(axis=-1)
    middle += rng.normal(0, process, middle.shape)
    bias = np.sort(np.where(rng.random((2000, 24)) < burst, 0.2, 0.0), axis=-1)[:, 6:18].mean()
    return middle[0] + math.log(ratio) - bias, middle[1] - bias


def answers(ratio, trials=400, seed=0, **noise):
    ratios, twins = host(np.random.default_rng(seed), ratio, trials, **noise)
    found = []
    for logs, guard in zip(ratios.tolist(), twins.tolist(), strict=True):
        rounds = [Observation(a, b) for a, b in zip(logs, guard, strict=True)]
        told = decide(rounds[:20], rounds[20:], LIMIT, LOOKS)
        assert isinstance(told, Decision)
        found.append(told.outcome)
    return {outcome: found.count(outcome) / trials for outcome in Outcome}


def test_equal_models_are_never_called_slower_in_ten_thousand_simulated_decisions():
    # Cheaply: the noise is in the observations alone.
    rng = np.random.default_rng(1)
    alarms = 0
    for sd in (0.005, 0.01, 0.02, 0.05):
        draws = rng.normal(0, sd, (2500, 2, 25))
        for ratios, twins in draws.tolist():
            rounds = [Observation(a, b) for a, b in zip(ratios, twins, strict=True)]
            told = decide(rounds[:20], rounds[20:], LIMIT, LOOKS, again_ended=True)
            alarms += isinstance(told, Decision) and told.outcome is FAIL
    assert alarms == 0


def test_at_the_margin_itself_failures_are_rarer_than_alpha():
    rng = np.random.default_rng(2)
    draws = rng.normal(math.log(LIMIT), 0.007, (2000, 40)).tolist()
    told = [
        decide([Observation(a, 0.0) for a in one[:20]], [Observation(a, 0.0) for a in one[20:]],
               LIMIT, LOOKS).outcome
        for one in draws
    ]  # fmt: skip
    assert told.count(FAIL) / len(told) < LOOKS.alpha
    assert told.count(PASS) / len(told) < 2 * LOOKS.alpha


def test_on_a_simulated_host_eight_per_cent_are_found_and_equals_pass():
    slower, equal = answers(1.08), answers(1.0)
    assert slower[FAIL] >= 0.9
    assert equal[FAIL] == 0
    assert equal[PASS] >= 0.9


def test_on_a_very_noisy_simulated_host_the_answer_is_undecided_not_wrong():
    equal = answers(1.0, process=0.08)
    assert equal[FAIL] == 0
    assert equal[UNDECIDED] >= 0.9


def test_a_look_tells_what_it_saw():
    one = look(steady(1.1, 5), LIMIT, 0.99)
    assert isinstance(one, Look)
    assert one.ratio.value == pytest.approx(1.1, rel=0.01)
    assert one.noise < 0.01
