from __future__ import annotations

import numpy as np
import pytest

from deploypipe.core.errors import UserError
from deploypipe.graph.check import compare, random_feeds, relative_error


def test_equal_models_differ_by_nothing(parse, evaluate):
    model = parse("g (float[N,3] x) => (float[N,3] y) {y = Relu(x)}")
    assert compare(model, model.clone(), random_feeds(model), evaluate) == 0


def test_the_error_is_relative_to_the_largest_output(parse, evaluate):
    a = parse("g (float[2] x) => (float[2] y) {y = Mul(x, c)}", c=np.float32(10))
    b = parse("g (float[2] x) => (float[2] y) {y = Mul(x, c)}", c=np.float32(9))
    feeds = {"x": np.array([1, -4], np.float32)}
    assert compare(a, b, feeds, evaluate) == pytest.approx(0.1)


def test_another_name_or_shape_is_infinitely_different(parse, evaluate):
    a = parse("g (float[2] x) => (float[2] y) {y = Relu(x)}")
    b = parse("g (float[2] x) => (float[2] z) {z = Relu(x)}")
    assert compare(a, b, random_feeds(a), evaluate) == float("inf")
    assert relative_error(np.zeros((1, 2)), np.zeros(2)) == float("inf")


def test_only_a_lonely_nan_is_a_difference():
    nan = np.array([np.nan, np.inf, 1.0])
    assert relative_error(nan, nan) == 0
    assert relative_error(np.array([1.0]), np.array([np.nan])) == float("inf")
    assert relative_error(nan, np.array([np.nan, np.inf, 1.5])) == pytest.approx(0.5)


def test_random_feeds_fit_the_inputs_and_repeat(parse):
    model = parse("g (float[N,3] x, int64[N,T] t) => (float[N,3] y) {y = Relu(x)}")
    feeds = random_feeds(model, seed=1, batch=4, sizes={"T": 7})
    assert feeds["x"].shape == (4, 3) and feeds["x"].dtype == np.float32
    assert feeds["t"].shape == (4, 7) and set(np.unique(feeds["t"])) <= {0, 1}
    again = random_feeds(model, seed=1, batch=4, sizes={"T": 7})
    assert all((feeds[name] == again[name]).all() for name in feeds)


def test_a_size_that_is_needed_is_asked_for(parse):
    model = parse("g (float[N,T] x) => (float[N,T] y) {y = Relu(x)}")
    with pytest.raises(UserError, match=r"dimension 1 \('T'\) of the model's input 'x' is dynamic"):
        random_feeds(model)
