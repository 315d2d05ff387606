from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from deploypipe.quantize.margins import (
    Collector,
    Margins,
    answers_of,
    lead_noise,
    why_no_answers,
)

LOGITS = (3 * np.random.default_rng(0).normal(size=(40_000, 10))).astype(np.float32)


def margins_of(rows: np.ndarray) -> Margins:
    collector = Collector()
    collector.add(rows)
    found = collector.margins()
    assert found is not None
    return found


def noisy(deviation: float) -> np.ndarray:
    return LOGITS + deviation * np.random.default_rng(1).normal(size=LOGITS.shape)


@pytest.mark.parametrize("deviation", [0.3, 0.1, 0.03])
def test_answers_that_gaussian_noise_changes_are_foretold(deviation: float) -> None:
    given = noisy(deviation)
    changed = (given.argmax(1) != LOGITS.argmax(1)).mean()
    noise = lead_noise([(LOGITS, given)])
    assert noise == pytest.approx(deviation * math.sqrt(2), rel=0.02)
    assert 1 - margins_of(LOGITS).kept(noise) == pytest.approx(changed, rel=0.15)


def test_noise_that_all_outputs_share_changes_no_lead() -> None:
    shift = np.random.default_rng(1).normal(size=(len(LOGITS), 1))
    assert lead_noise([(LOGITS, LOGITS + shift)]) < 1e-6


def test_the_noise_is_that_of_the_samples_at_stake() -> None:
    order = np.argsort(np.partition(-LOGITS, 1, axis=1)[:, 1] - (-LOGITS).min(axis=1))
    given = noisy(0.1)
    given[order[len(order) // 2 :]] = 0  # those that are decided clearly
    assert lead_noise([(LOGITS, given)]) == pytest.approx(0.1 * math.sqrt(2), rel=0.02)


def test_a_nan_and_another_shape_are_noise_without_bound() -> None:
    given = LOGITS.copy()
    given[:, 3] = np.nan
    assert lead_noise([(LOGITS, given)]) == math.inf
    assert lead_noise([(LOGITS, LOGITS[:, :5])]) == math.inf
    assert margins_of(LOGITS).kept(math.inf) < 0.6
    assert lead_noise([(LOGITS * np.nan, LOGITS)]) == 0  # no answers


def test_two_classes_are_the_normal_tail() -> None:
    assert margins_of(np.float32([[3.0, 1.0]])).kept(0.8) == pytest.approx(norm.cdf(2 / 0.8))


def test_the_deviation_is_the_largest_that_keeps_the_share() -> None:
    found = margins_of(LOGITS)
    allowed = found.deviation(0.99)
    assert found.kept(allowed) >= 0.99 > found.kept(1.01 * allowed)


def test_no_exactness_keeps_ties() -> None:
    tied = margins_of(np.float32([[1, 1], [2, 0]]))  # a tie is a coin
    assert tied.deviation(0.99) == 0
    assert tied.kept(tied.deviation(0.7)) >= 0.7
    assert (tied.kept(0), tied.kept(1e-9)) == (1, 0.75)


def test_the_order_and_the_batches_leave_no_trace() -> None:
    one, other = Collector(), Collector()
    one.add(LOGITS[:500])
    for row in np.random.default_rng(1).permutation(LOGITS[:500]):
        other.add(row[None])
    a, b = one.margins(), other.margins()
    assert a is not None and b is not None
    assert a.leads.tobytes() == b.leads.tobytes()
    assert a.leads.shape == (500, 7)


def test_masked_classes_and_samples_without_an_answer_count_for_nothing() -> None:
    rows = np.float32([[3, 1, -np.inf], [np.nan, 1, 2], [np.inf, 0, 1]])
    assert margins_of(rows).kept(1) == margins_of(rows[:1, :2]).kept(1)
    collector = Collector()
    collector.add(rows[1:2])
    collector.add(rows[:1, :1])
    collector.add(rows[0])
    assert collector.margins() is None


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        ("(float[N,4] x) => (float[N,4] y) { y = Neg(x) }", None),
        ("(float[N,4] x) => (float[N,4] y) { y = Softmax(x) }", "it ends in Softmax, and noise on"),
        ("(float[N,1] x) => (float[N,1] y) { y = Neg(x) }", "with two classes or more"),
        ("(float[N,T,4] x) => (float[N,T,4] y) { y = Neg(x) }", "is not float [N, classes]"),
        ("(float[N,4,1,1] x) => (float[N,4] y) { s = Softmax(x) y = Flatten(s) }", "ends in Softmax"),
        ("(float[N,4] x) => (float[N,4] y) { s = Sigmoid(x) y = Identity(s) }", "ends in Sigmoid"),
        ("(float[N,4] x) => (float16[N,4] y) { y = Cast<to=10>(x) }", "is not float"),
        ("(float[N,4] x) => (float[N,4] y, float[N,4] z) { y = Neg(x) z = Neg(y) }", "2 outputs"),
        ("(float[N,4] x) => (float[N,4] x) { y = Neg(x) }", "is an input"),
    ],
)  # fmt: skip
def test_answers_are_those_of_a_classifier(parse, graph, why) -> None:
    model = parse("agraph " + graph)
    found = why_no_answers(model)
    assert (found is None) if why is None else why in found
    assert answers_of(model) == (None if why else "y")


def test_the_number_of_classes_may_be_open(parse) -> None:
    model = parse("agraph (float[N,T] x) => (float[N,T] y) { y = Neg(x) }")
    assert answers_of(model) == "y"
