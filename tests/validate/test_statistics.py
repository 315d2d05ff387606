"""Intervals, against scipy, published examples and brute force."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy import optimize, stats

from deploypipe.validate.interval import Interval
from deploypipe.validate.paired_proportions import (
    drop_interval,
    mcnemar_p,
    provable_by,
    provable_margin,
    samples_needed,
    samples_needed_by,
    share_interval,
)
from deploypipe.validate.student import mean_interval, t_probability, t_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 29, 100])
@pytest.mark.parametrize("probability", [0.5, 0.75, 0.95, 0.995, 0.9999])
def test_t_quantiles_are_those_of_scipy(probability, freedom):
    expected = stats.t.ppf(probability, freedom)
    assert t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("freedom", [1, 2, 3, 8])
def test_t_probabilities_are_those_of_scipy(freedom):
    for t in (0.0, 0.3, 1.0, 4.0, 50.0):
        assert t_probability(t, freedom) == pytest.approx(stats.t.cdf(t, freedom), rel=1e-12)


@pytest.mark.parametrize(("probability", "freedom"), [(0.4, 3), (1.0, 3), (0.9, 0)])
def test_t_quantiles_that_do_not_exist_are_refused(probability, freedom):
    with pytest.raises(ValueError, match="no t quantile"):
        t_quantile(probability, freedom)


def test_the_interval_of_a_mean_is_that_of_scipy():
    values = [1.0, 4.0, 2.5, 3.0, 2.0]
    interval = mean_interval(values, 0.99)
    expected = stats.t.interval(0.99, 4, np.mean(values), stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx(expected)
    assert interval.value == 2.5


def test_one_value_has_an_unbounded_interval():
    assert mean_interval([3.0], 0.99) == Interval(3.0, -math.inf, math.inf, 0.99)


def test_the_inverse_of_an_interval_turns_its_ends():
    assert Interval(2, 1, 4, 0.9).inverse() == Interval(0.5, 0.25, 1.0, 0.9)
    assert Interval(2, 0, 4, 0.9).inverse().high == math.inf


def test_tango_is_as_published_for_airway_hyper_responsiveness():
    # Fagerland, Lydersen and Laake (2014), Statistics in Medicine 33: 1, 7, 1, 12 of 21 children.
    interval = drop_interval(1, 7, 21, 0.975)
    assert (round(interval.low, 3), round(interval.high, 3)) == (-0.517, -0.026)


def test_tango_is_that_of_another_program():
    # PropCIs::scoreci.mp(25, 28, 618, 0.90) of R, which counts (second - first) / n.
    interval = drop_interval(28, 25, 618, 0.95)
    assert (round(interval.low, 4), round(interval.high, 4)) == (-0.0148, 0.0247)


@pytest.mark.parametrize(
    ("lost", "won", "n", "confidence"),
    [(1, 7, 21, 0.975), (132, 107, 1144, 0.975), (40, 20, 160, 0.975), (3, 0, 900, 0.95)],
)
def test_tango_is_a_root_of_the_closed_quartic(lost, won, n, confidence):
    # Yang, Sun and Hardin (2013), Statistics in Medicine 32, 1336-1342.
    g, d, s = NormalDist().inv_cdf(confidence) ** 2, lost - won, lost + won
    roots = np.roots(
        [
            n**2 * (n / g + 1) ** 2,
            -n * d * (n / g + 1) * (4 * n / g + 1),
            2 * n * d**2 * (3 * n / g + 2) / g - n**2 * (s / g + 1),
            n * d * (2 * s / g + 1) - d**3 * (4 * n / g + 1) / g,
            d**2 * (d**2 / g - s) / g,
        ]
    )
    real = sorted(root.real for root in roots if abs(root.imag) < 1e-9)
    interval = drop_interval(lost, won, n, confidence)
    for end in (interval.low, interval.high):
        assert min(abs(end - root) for root in real) < 1e-6


def restricted_likelihood_bounds(lost, won, n, confidence):
    """Tango's interval the long way: maximise the likelihood for every drop, numerically."""
    z = NormalDist().inv_cdf(confidence)

    def score(delta):
        least, most = max(0.0, -delta), (1 - delta) / 2

        def loss(q):  # q = P(won), q + delta = P(lost)
            chances = (q + delta, q, 1 - 2 * q - delta)
            return -sum(
                k * math.log(max(p, 1e-300))
                for k, p in zip((lost, won, n - lost - won), chances, strict=True)
            )

        q = optimize.minimize_scalar(
            loss, bounds=(least, most), method="bounded", options={"xatol": 1e-12}
        ).x
        return (lost - won - n * delta) / math.sqrt(n * (2 * q + delta * (1 - delta)))

    drop = (lost - won) / n
    low = optimize.brentq(lambda d: score(d) - z, -0.999, drop)
    high = optimize.brentq(lambda d: score(d) + z, drop, 0.999)
    return low, high


@pytest.mark.parametrize(
    ("lost", "won", "n", "confidence"),
    [(40, 20, 160, 0.975), (3, 1, 50, 0.95), (12, 12, 400, 0.95), (0, 5, 200, 0.95)],
)
def test_tango_is_what_brute_force_finds(lost, won, n, confidence):
    interval = drop_interval(lost, won, n, confidence)
    expected = restricted_likelihood_bounds(lost, won, n, confidence)
    assert (interval.low, interval.high) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(("lost", "n"), [(0, 60), (1, 60), (30, 200), (60, 60)])
def test_the_interval_of_a_share_is_that_of_statsmodels(lost, n):
    from statsmodels.stats.proportion import proportion_confint

    found = share_interval(lost, n, 0.95)
    low, high = proportion_confint(lost, n, alpha=0.1, method="wilson")
    assert (found.value, found.confidence) == (lost / n, pytest.approx(0.9))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


def test_no_flip_at_all_still_has_a_width():
    z = NormalDist().inv_cdf(0.95)
    interval = drop_interval(0, 0, 100, 0.95)
    assert interval.high == pytest.approx(z**2 / (100 + z**2))
    assert interval.low == pytest.approx(-interval.high)


def test_swapping_the_models_mirrors_the_interval():
    there, back = drop_interval(9, 4, 300, 0.95), drop_interval(4, 9, 300, 0.95)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_total_loss_stays_within_one():
    interval = drop_interval(50, 0, 50, 0.95)
    assert interval.value == interval.high == 1.0
    assert 0.8 < interval.low < 1


@pytest.mark.parametrize(("lost", "won", "samples"), [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_counts_that_cannot_be_are_refused(lost, won, samples):
    with pytest.raises(ValueError, match="cannot be"):
        drop_interval(lost, won, samples, 0.95)


def test_tango_holds_its_confidence():
    rng = np.random.default_rng(0)
    lost, won = 0.03, 0.01
    draws = rng.multinomial(500, [lost, won, 1 - lost - won], size=400)
    bounds = [drop_interval(int(a), int(b), 500, 0.95).high for a, b, _ in draws]
    assert np.mean(np.array(bounds) >= lost - won) > 0.92


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (5, 2), (10, 30), (700, 650)])
def test_mcnemar_is_the_binomial_test_of_scipy(lost, won):
    expected = stats.binomtest(lost, lost + won).pvalue if lost + won else 1.0
    assert mcnemar_p(lost, won) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("lost", "won"), [(1, 0), (6, 2), (11, 30), (25, 25)])
def test_mcnemar_is_the_exact_test_of_statsmodels(lost, won):
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    expected = tables.mcnemar([[100, lost], [won, 50]], exact=True).pvalue
    assert mcnemar_p(lost, won) == pytest.approx(expected, rel=1e-9)


def test_samples_for_a_standard_error_shrink_with_its_square():
    # The closed form for proportions with q = 0.02: sqrt(q / n) is the standard error.
    error = math.sqrt(0.02 / 10_000)
    assert provable_by(error, 0.95) == pytest.approx(provable_margin(100, 100, 10_000, 0.95))
    assert samples_needed_by(error, 10_000, 0.01, 0.95) == 1713
    assert samples_needed_by(error, 10_000, 0.0, 0.95) is None


def test_the_provable_margin_is_the_closed_form():
    # 2 % of 10 000 flip: (1.645 + 1.282) * sqrt(0.02 / 10 000) = 0.41 points.
    assert provable_margin(100, 100, 10_000, 0.95) == pytest.approx(0.00414, abs=1e-5)


def test_no_flip_does_not_prove_a_margin_of_nothing():
    assert provable_margin(0, 0, 1000, 0.95) == pytest.approx(0.0027, abs=1e-4)


def test_the_samples_needed_are_the_closed_form():
    assert samples_needed(100, 100, 10_000, 0.01, 0.95) == 1713


def test_without_flips_the_samples_needed_prove_the_margin():
    n = samples_needed(0, 0, 50, 0.01, 0.95)
    assert drop_interval(0, 0, n, 0.95).high <= 0.01 < drop_interval(0, 0, n - 1, 0.95).high


def test_a_drop_that_is_the_margin_is_never_decided():
    assert samples_needed(2, 1, 100, 0.01, 0.95) is None
