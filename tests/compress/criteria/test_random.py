"""Scores without reason, but the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from deploypipe.compress import CRITERIA
from deploypipe.compress.criteria.random import Random
from deploypipe.core.errors import UserError


def test_the_seed_and_the_name_decide(group):
    scores = Random(1).score(group("a", 8), {})
    np.testing.assert_array_equal(scores, Random(1).score(group("a", 8), {}))
    assert not np.array_equal(scores, Random(2).score(group("a", 8), {}))
    assert not np.array_equal(scores, Random(1).score(group("b", 8), {}))


def test_scores_lie_between_a_half_and_one_and_a_half(group):
    scores = Random().score(group("a", 1000), {})
    assert scores.min() >= 0.5
    assert scores.max() <= 1.5
    assert scores.shape == (1000,)


def test_a_negative_seed_is_refused():
    with pytest.raises(UserError, match="x.random: seed must not be negative, got -1"):
        CRITERIA.build({"random": {"seed": -1}}, "x")
