"""The judge is pure: no clock, no model, three outcomes."""

import dataclasses
import json
import math

import pytest

from deploypipe.core.errors import UserError
from deploypipe.core.options import check
from deploypipe.validate.accuracy import AccuracyComparison
from deploypipe.validate.drift import Drift
from deploypipe.validate.interval import Interval
from deploypipe.validate.judge import (
    Comparison,
    Measured,
    accuracy_check,
    differences,
    judge,
    speedup_check,
)
from deploypipe.validate.latency import LatencyComparison
from deploypipe.validate.measurement import Measurement
from deploypipe.validate.paired_proportions import drop_interval, provable_margin
from deploypipe.validate.verdict import Budget, Check, Outcome, Verdict

PASS, FAIL, UNDECIDED = Outcome.PASS, Outcome.FAIL, Outcome.UNDECIDED
HERE = {"threads": 2, "provider": "CPUExecutionProvider", "host": {"cpu": "a"}}


def latency(low, value, high, aa=0.001, there=HERE):
    """A comparison with this speedup."""
    return LatencyComparison(
        reference=Measurement("reference", "ms", (1.0,), HERE),
        candidate=Measurement("candidate", "ms", (1.0,), there),
        ratio=Interval(1 / value, 1 / high, 1 / low, 0.99),
        aa_half_width=aa,
        rounds=(),
        batch=1,
        seed=0,
    )


def accuracy(lost, won, samples):
    drop = drop_interval(lost, won, samples, 0.95).map(lambda share: share * 100)
    margin = provable_margin(lost, won, samples, 0.95) * 100
    return AccuracyComparison(
        "top1", "points", 100.0, samples, 0.9, 0.9 - drop.value / 100, drop, 0.95, True, lost,
        won, 1.0, margin,
    )  # fmt: skip


def drift(candidate=0, reference=0, new=0):
    return Drift(10, 1.0, 40.0, 0.1, 0.01, 0.02, reference, candidate, new, ())


BEFORE, AFTER = Measured("reference", 4000), Measured("candidate", 1000)


def verdict(comparison, **budget):
    return judge(BEFORE, AFTER, comparison, Budget(**budget))


@pytest.mark.parametrize(
    ("low", "value", "high", "outcome"),
    [
        (1.6, 1.8, 2.0, PASS),
        (1.5, 1.8, 2.0, PASS),
        (1.4, 1.45, 1.49, FAIL),
        (1.4, 1.55, 1.7, UNDECIDED),
        (1.4, 1.45, 1.5, UNDECIDED),
    ],
)
def test_a_speedup_is_decided_by_its_whole_interval(low, value, high, outcome):
    assert speedup_check(latency(low, value, high), 1.5).outcome is outcome


@pytest.mark.parametrize(("low", "value", "high"), [(1.7, 1.8, 1.9), (1.1, 1.2, 1.3)])
def test_a_noisy_host_decides_nothing(low, value, high):
    told = speedup_check(latency(low, value, high, aa=0.15), 1.5)
    assert told.outcome is UNDECIDED
    assert "noisy host" in told.why
    assert "15.0%" in told.why


def test_noise_far_below_the_difference_does_not_matter():
    assert speedup_check(latency(2.9, 3, 3.1, aa=0.15), 1.5).outcome is PASS


def test_noise_without_bound_decides_nothing():
    assert speedup_check(latency(2.9, 3, 3.1, aa=float("inf")), 1.5).outcome is UNDECIDED


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ({**HERE, "threads": 4}, "threads: 2 against 4"),
        ({**HERE, "host": {"cpu": "b"}}, "host.cpu: a against b"),
        ({**HERE, "provider": "CUDA"}, "provider: CPUExecutionProvider against CUDA"),
        ({k: v for k, v in HERE.items() if k != "threads"}, "threads: 2 against None"),
    ],
)
def test_different_environments_are_no_comparison(there, told):
    judged = speedup_check(latency(5, 6, 7, there=there), 1.5)
    assert judged.outcome is UNDECIDED
    assert told in judged.why


def test_equal_environments_do_not_differ():
    assert differences(HERE, dict(HERE)) == []


def test_not_slower_is_asked_without_a_budget():
    told = verdict(Comparison(latency=latency(0.8, 0.85, 0.9)))
    assert [(c.name, c.outcome) for c in told.checks] == [("not slower", FAIL)]
    assert told.exit_code == 1


def test_equal_models_can_be_proven_not_slower_within_the_tolerance():
    told = verdict(Comparison(latency=latency(0.985, 1.0, 1.015)))
    assert told.outcome is PASS
    strict = judge(
        BEFORE, AFTER, Comparison(latency=latency(0.985, 1.0, 1.015)), Budget(), not_slower=1.0
    )
    assert strict.outcome is UNDECIDED


@pytest.mark.parametrize(
    ("lost", "won", "samples", "outcome"),
    [
        (10, 10, 10_000, PASS),
        (500, 10, 10_000, FAIL),
        (3, 1, 100, UNDECIDED),
        (0, 0, 100, UNDECIDED),
        (0, 0, 1000, PASS),
    ],
)
def test_an_accuracy_drop_is_decided_by_its_whole_interval(lost, won, samples, outcome):
    assert accuracy_check(accuracy(lost, won, samples), 1.0).outcome is outcome


def test_too_few_samples_tell_how_many_are_needed():
    told = accuracy_check(accuracy(0, 0, 100), 1.0)
    assert "too few samples: 100 samples, 0 flip to wrong" in told.why
    assert "about 268 samples would decide" in told.why


def test_a_drop_at_the_limit_is_told_to_stay_undecided():
    told = accuracy_check(accuracy(2, 1, 100), 1.0)
    assert told.outcome is UNDECIDED
    assert "more samples would not decide it" in told.why


def test_the_samples_needed_of_a_bootstrap_follow_its_standard_error():
    drop = Interval(0.0, -2.0, 2.0, 0.9)
    told = AccuracyComparison("mse", "", 1.0, 100, 1, 1, drop, 0.95, False, standard_error=1.2)
    check = accuracy_check(told, 1.0)
    assert "about 1234 samples would decide" in check.why  # ((1.645 + 1.282) * 1.2)² * 100
    assert check.samples_needed == check.to_json()["samples_needed"] == 1234
    assert accuracy_check(told, 3.0).samples_needed is None


def test_the_smallest_margin_that_is_proven_is_told():
    told = accuracy_check(accuracy(3, 1, 1000), 5.0)
    assert told.outcome is PASS
    assert f"they prove a loss of at most {told.high:.2g}" in told.why


def error(reference, candidate, samples=100):
    """Squared errors of two models, with the interval that the bootstrap gives."""
    drop = candidate - reference
    ends = (drop, -math.inf, math.inf)
    interval = Interval(*ends, 0.9)
    return AccuracyComparison(
        "mse", "", 1.0, samples, reference, candidate, interval, 0.95, False
    )  # fmt: skip


@pytest.mark.parametrize(
    ("reference", "candidate", "outcome", "whose"),
    [
        (1.0, math.nan, FAIL, "candidate"),
        (1.0, math.inf, FAIL, "candidate"),
        (math.nan, math.nan, FAIL, "candidate"),
        (math.inf, 1.0, UNDECIDED, "reference"),
        (math.nan, 1.0, UNDECIDED, "reference"),
    ],
)
def test_a_metric_that_is_no_finite_number_is_told(reference, candidate, outcome, whose):
    told = accuracy_check(error(reference, candidate), 1.0)
    assert told.outcome is outcome
    assert f"the metric of the {whose} is not a finite number" in told.why
    json.dumps(told.to_json(), allow_nan=False)


def test_one_sample_of_an_error_decides_nothing():
    told = accuracy_check(error(1.0, 1.0, samples=1), 1.0)
    assert (told.outcome, told.low, told.high) == (UNDECIDED, None, None)
    assert "1 sample; 95% one-sided confidence, and so few have no interval" in told.why


def test_more_samples_than_there_were_are_asked_for():
    told = accuracy_check(accuracy(1, 0, 200), 2.0)
    assert told.outcome is UNDECIDED
    assert "about 201 samples would decide" in told.why


def test_shrinking_is_counted_exactly():
    assert verdict(Comparison(), shrink=4.0).outcome is PASS
    assert verdict(Comparison(), shrink=4.01).outcome is FAIL
    assert verdict(Comparison(), shrink=4).checks[0].why == "4000 -> 1000 bytes"


def test_nan_answers_fail():
    told = verdict(Comparison(drift=drift(candidate=3, new=3)))
    assert told.outcome is FAIL
    assert "NaN or infinity on 3 samples" in told.checks[0].why


def test_nan_answers_that_the_reference_has_too_do_not_fail():
    told = verdict(Comparison(drift=drift(candidate=3, reference=3)))
    assert told.outcome is PASS
    assert "on 3 samples, where the reference has them too" in told.checks[0].why


def test_nan_on_another_sample_than_the_references_fails():
    told = verdict(Comparison(drift=drift(candidate=1, reference=1, new=1)))
    assert told.outcome is FAIL
    assert "NaN or infinity on 1 sample where the reference has none" in told.checks[0].why


@pytest.mark.parametrize(("lost", "samples"), [(10, 10_000), (500, 10_000), (3, 100)])
def test_an_accuracy_says_that_its_confidence_is_one_sided(lost, samples):
    assert "95% one-sided confidence" in accuracy_check(accuracy(lost, 1, samples), 1.0).why


@pytest.mark.parametrize("measured", [True, False])
def test_every_check_says_on_which_side_its_limit_is(measured):
    everything = Comparison(accuracy(1, 1, 5000), latency(2, 2.1, 2.2), drift())
    told = verdict(
        everything if measured else Comparison(), accuracy_drop=1.0, speedup=1.5, shrink=2
    ).to_json()
    sides = {check["name"]: check["side"] for check in told["checks"]}
    expected = {"accuracy drop": "most", "speedup": "least", "shrink": "least"}
    more = {"finite outputs": "most", "not slower": "least"}
    assert sides == expected | (more if measured else {})


@pytest.mark.parametrize("asked", [{"speedup": 2.0}, {"accuracy_drop": 1.0}])
def test_what_was_asked_and_not_measured_is_undecided(asked):
    told = verdict(Comparison(), **asked)
    assert told.outcome is UNDECIDED
    assert "was not measured" in told.checks[0].why
    assert told.exit_code == 3


def test_checks_come_in_one_order():
    everything = Comparison(accuracy(1, 1, 5000), latency(2, 2.1, 2.2), drift())
    told = verdict(everything, accuracy_drop=1.0, speedup=1.5, shrink=2)
    assert [c.name for c in told.checks] == [
        "finite outputs", "accuracy drop", "not slower", "speedup", "shrink",
    ]  # fmt: skip
    assert told.outcome is PASS
    assert told.exit_code == 0


@pytest.mark.parametrize(
    ("outcomes", "outcome"),
    [
        ([], PASS),
        ([PASS, PASS], PASS),
        ([PASS, UNDECIDED], UNDECIDED),
        ([UNDECIDED, FAIL, PASS], FAIL),
    ],
)
def test_one_failure_fails_and_else_one_doubt_leaves_it_undecided(outcomes, outcome):
    checks = tuple(Check("c", 1, 1, 1, 1, "", one, "", "least") for one in outcomes)
    assert Verdict(checks).outcome is outcome


def test_a_verdict_is_plain_json():
    everything = Comparison(accuracy(1, 1, 5000), latency(2, 2.1, 2.2), drift())
    told = verdict(everything, accuracy_drop=1.0, speedup=1.5, shrink=2).to_json()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["outcome"] == "PASS"


def test_a_row_of_the_report_is_plain_json():
    row = dataclasses.replace(BEFORE, latency=Measurement("reference", "ms", (1.0, 3.0)))
    assert row.to_json()["latency_ms"] == {"p50": 2.0, "p90": None, "p99": None, "n": 2}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"speedpu": 2}, "did you mean 'speedup'"),
        ({"speedup": 0}, "greater than 0"),
        ({"accuracy_drop": -1}, "greater than or equal to 0"),
        ({"shrink": "four"}, "expected float, got 'four'"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(given, message):
    with pytest.raises(UserError) as error:
        check(Budget, given, "budget")
    assert message in str(error.value)
