from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from deploypipe.quantize.margins import Collector, Margins, answers_of, why_no_answers

LOGITS = (3 * np.random.default_rng(0).normal(size=(40_000, 10))).astype(np.float32)


def margins_of(rows: np.ndarray) -> Margins:
    collector = Collector()
    collector.add(rows)
    found = collector.margins()
    assert found is not None
    return found


def noisy(decibels: float) -> np.ndarray:
    deviation = math.sqrt(float(np.square(LOGITS).mean())) * 10 ** (-decibels / 20)
    return LOGITS + deviation * np.random.default_rng(1).normal(size=LOGITS.shape)


@pytest.mark.parametrize("decibels", [20, 30, 40])
def test_answers_that_gaussian_noise_changes_are_foretold(decibels: float) -> None:
    stay = (noisy(decibels).argmax(1) == LOGITS.argmax(1)).mean()
    lost = 1 - margins_of(LOGITS).kept(decibels)
    assert lost == pytest.approx(1 - stay, rel=0.15) and lost > 0


def test_two_classes_are_the_normal_tail() -> None:
    one = margins_of(np.float32([[3.0, 1.0]]))
    deviation = math.sqrt((9 + 1) / 2) * 10 ** (-10 / 20)
    assert one.kept(10) == pytest.approx(norm.cdf(2 / (deviation * math.sqrt(2))))


def test_the_decibels_are_the_least_that_keep_the_share() -> None:
    found = margins_of(LOGITS)
    needed = found.decibels(0.99)
    assert found.kept(needed) >= 0.99 > found.kept(needed - 0.2)
    assert needed == pytest.approx(round(needed, 1))


def test_no_exactness_keeps_ties() -> None:
    assert margins_of(np.float32([[1, 1], [2, 0]])).decibels(0.99) == math.inf  # a tie is a coin
    assert margins_of(np.float32([[1, 1], [2, 0]])).decibels(0.7) < 40


def test_the_order_and_the_batches_leave_no_trace() -> None:
    one, other = Collector(), Collector()
    one.add(LOGITS[:500])
    for row in np.random.default_rng(1).permutation(LOGITS[:500]):
        other.add(row[None])
    a, b = one.margins(), other.margins()
    assert a is not None and b is not None
    assert a.leaders.tobytes() == b.leaders.tobytes() and a.powers.tobytes() == b.powers.tobytes()
    assert a.leaders.shape == (500, 8)


def test_masked_classes_and_samples_without_an_answer_count_for_nothing() -> None:
    rows = np.float32([[3, 1, -np.inf], [np.nan, 1, 2], [np.inf, 0, 1]])
    assert margins_of(rows).kept(10) == margins_of(rows[:1, :2]).kept(10)
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
