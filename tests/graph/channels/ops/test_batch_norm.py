from __future__ import annotations

import numpy as np
import pytest

TEXT = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
    h = Conv(x, w)
    n = BatchNormalization <epsilon = 0.0> (h, gamma, beta, mean, var)
    y = Conv <pads = [1,1,1,1]> (n, v)}"""


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    """Three channels, the norm adds 1, 2, 3; all live."""
    ones = np.ones(3, np.float32)
    norm = {"gamma": ones, "beta": ones * [1, 2, 3], "mean": ones, "var": ones}
    convs = {"w": np.ones((3, 2, 1, 1)), "v": np.ones((2, 3, 3, 3))}
    return {name: array.astype(np.float32) for name, array in {**norm, **convs}.items()}


def test_gamma_and_beta_of_zero_take_the_filter_and_the_reader_along(cut, weights):
    weights["gamma"] = np.array([1, 0, 1], np.float32)
    weights["beta"] = np.array([1, 0, 3], np.float32)
    gone = cut(TEXT, **weights).gone
    assert gone.pop("w") == gone.pop("gamma") == gone.pop("beta") == {0: [1]}
    assert gone.pop("mean") == gone.pop("var") == {0: [1]}
    assert gone == {"h": {1: [1]}, "n": {1: [1]}, "v": {1: [1]}}


def test_the_only_constant_stays_where_the_border_can_be_seen(cut, weights):
    weights["gamma"] = np.array([1, 0, 1], np.float32)
    assert cut(TEXT, **weights).gone == {}


def test_betas_of_silent_channels_are_merged_into_one(cut, weights):
    weights["gamma"] = np.array([0, 0, 1], np.float32)
    weights["beta"] = np.array([2, 4, 1], np.float32)
    done = cut(TEXT, **weights)
    assert done.gone["w"] == done.gone["beta"] == {0: [0]} and done.gone["v"] == {1: [0]}
    assert "n: 1 constant channels into one of them" in done.changes


def test_a_beta_goes_into_the_bias_where_no_border_can_be_seen(cut, weights):
    weights["gamma"] = np.array([1, 0, 1], np.float32)
    done = cut(TEXT.replace("<pads = [1,1,1,1]> (n", "(n").replace("4,4] y", "2,2] y"), **weights)
    assert done.gone["w"] == {0: [1]} and len(done.after.graph[-1].inputs) == 3


def test_what_feeds_a_constant_channel_is_not_needed(cut, weights):
    text = TEXT.replace("h = Conv(x, w)", "a = Conv(x, u)\nh = Conv(a, w)")
    weights["gamma"] = np.array([1, 0, 1], np.float32)
    weights["u"], weights["w"] = (np.ones(s, np.float32) for s in ((4, 2, 1, 1), (3, 4, 1, 1)))
    weights["w"][[0, 2], 3] = 0  # only the constant channel reads a[3]
    done = cut(text, **weights)
    assert done.gone == {"u": {0: [3]}, "a": {1: [3]}, "w": {1: [3]}}


def test_a_zero_filter_is_a_moved_constant_behind_a_norm(cut, flow, parse, weights):
    weights["w"][1] = 0
    weights["beta"][1] = 5
    numbers = flow(parse(TEXT, **weights)).values
    found = {v.name: vector for (v, axis), vector in numbers.items() if axis == 1}
    np.testing.assert_array_equal(found["n"], [np.nan, 4, np.nan])  # (0 - 1) / 1 + 5
    assert cut(TEXT, **weights).gone == {}


def test_statistics_that_are_computed_pin(cut, weights):
    text = TEXT.replace("4,4] x", "4,4] x, float[3] m", 1).replace("beta, mean", "beta, m")
    weights["gamma"], weights["beta"] = np.array([1, 0, 1], np.float32), np.zeros(3, np.float32)
    del weights["mean"]
    assert cut(text, **weights).gone == {}


def test_a_norm_over_an_unknown_number_of_channels_is_left_alone(cut, weights):
    text = """g (float[N,H,4,4] x) => (float[N,2,4,4] y) {
        n = BatchNormalization <epsilon = 0.0> (x, gamma, beta, mean, var)
        y = Conv(n, v)}"""
    five = {n: np.resize(a, 5) for n, a in weights.items() if n not in ("w", "v")}
    five["gamma"][1] = five["beta"][1] = 0
    assert cut(text, v=np.ones((2, 5, 1, 1), np.float32), **five).gone == {}


def test_a_zero_filter_stays_zero_where_the_norm_adds_nothing(cut, weights):
    weights["w"][1], weights["beta"][1], weights["mean"][1] = 0, 0, 0
    assert cut(TEXT, **weights).gone["w"] == {0: [1]}


@pytest.mark.parametrize("variance", [-2.0, 0.0, np.nan])
def test_a_variance_that_gives_no_finite_scale_keeps_all(cut, weights, variance):
    weights["gamma"], weights["beta"] = np.array([1, 0, 1], np.float32), np.zeros(3, np.float32)
    weights["var"][1] = variance
    with np.errstate(all="ignore"):
        assert cut(TEXT, **weights).gone == {}


def test_a_norm_in_training_mode_keeps_all_and_needs_all(cut, weights):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        a = Conv(x, u)
        h = Conv(a, w)
        n, m, s = BatchNormalization <training_mode = 1> (h, gamma, beta, mean, var)
        y = Conv(n, v)}"""
    weights["u"], weights["w"] = (np.ones(s, np.float32) for s in ((4, 2, 1, 1), (3, 4, 1, 1)))
    weights["gamma"], weights["beta"] = np.array([1, 0, 1], np.float32), np.zeros(3, np.float32)
    weights["v"] = np.ones((2, 3, 1, 1), np.float32)
    assert cut(text, **weights).gone == {}
