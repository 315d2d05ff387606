"""What every step by itself did to the metric."""

from __future__ import annotations

import numpy as np
import pytest

from deploypipe.stages._contributions import drops
from deploypipe.validate import METRICS
from deploypipe.validate.pairs import Moved, Pairs


@pytest.fixture
def pairs():
    """200 samples of which the reference gets 180 right."""
    nothing = np.zeros(200)
    right = (np.arange(200) < 180).astype(float)
    return Pairs(
        metric=METRICS.build("top1"),
        ids=tuple(map(str, range(200))),
        labels=nothing,
        reference_rows=right,
        candidate_rows=right,
        reference_predictions=None,
        candidate_predictions=None,
        reference_nonfinite=nothing.astype(int),
        candidate_nonfinite=nothing.astype(int),
        new_nonfinite=nothing.astype(int),
        moved=Moved(nothing, nothing, nothing, nothing, nothing),
    )


def test_a_step_is_told_against_the_first_and_against_the_one_before(pairs):
    first = pairs.reference_rows
    worse, back = first.copy(), first.copy()
    worse[:10] = 0
    back[:4] = 0
    told = drops(pairs, {"reference": first, "prune": worse, "distill": back}, seed=0)
    assert list(told) == ["prune", "distill"]
    assert told["prune"]["drop"] == told["prune"]["step_drop"]
    assert told["distill"]["drop"]["value"] == pytest.approx(2.0)
    assert told["distill"]["step_drop"]["value"] == pytest.approx(-3.0)


def test_every_value_lies_in_its_interval(pairs):
    changed = pairs.reference_rows.copy()
    changed[:10] = 0
    (told,) = drops(pairs, {"a": pairs.reference_rows, "b": changed}, seed=0).values()
    for one in told.values():
        assert one["low"] < one["value"] < one["high"]


def test_one_step_alone_did_nothing(pairs):
    assert drops(pairs, {"reference": pairs.reference_rows}, seed=0) == {}
