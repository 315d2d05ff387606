from __future__ import annotations

import numpy as np

from deploypipe.quantize.noise import Noise
from deploypipe.quantize.repair import repair

NOISE = Noise({"quiet": 1e-5, "loud": 1e-2, "middle": 1e-3}, 0.01101)


def test_a_promise_that_does_not_hold_takes_more():
    tried = []

    def make(spared):
        tried.append(list(spared))
        return 29 if len(spared) == 1 else 45  # the estimate was 29.96 dB

    assert repair(NOISE, 29.5, make) == ["loud", "middle"]
    assert tried == [["loud"], ["loud", "middle"]]


def test_what_goes_far_beyond_the_floor_puts_fewer_back():
    tried = []

    def make(spared):
        tried.append(list(spared))
        return {2: 44.0, 1: 37.0}[len(spared)]  # 50 and 30 dB were foretold

    assert repair(NOISE, 36.0, make) == ["loud"]
    assert tried == [["loud", "middle"], ["loud"]]


def test_the_last_that_kept_the_floor_counts():
    def make(spared):
        return {2: 44.0, 1: 35.0}[len(spared)]

    assert repair(NOISE, 36.0, make) == ["loud", "middle"]


def test_between_what_kept_the_floor_and_what_did_not_another_is_tried():
    noise = Noise({"a": 8e-4, "b": 4e-4, "c": 2e-4, "d": 1e-4}, 15e-4)
    reached, tried = (
        {3: 57.0, 2: 41.0, 1: 33.0},
        [],
    )  # so far beyond that nothing seems to be needed

    def make(spared):
        tried.append(len(spared))
        return reached[len(spared)]

    assert repair(noise, 40.0, make) == ["a", "b"]
    assert tried == [3, 2, 1]


def test_in_the_end_everything_is_float():
    assert set(repair(NOISE, 20, lambda _: 0.0)) == set(NOISE.power)


def test_a_repair_may_keep_any_unit_whether_it_was_planned_or_not(conv_net, quantize) -> None:
    rows = np.random.default_rng(3).normal(size=(40, 1, 2, 2)).astype(np.float32)
    conv_net.graph[1].op_type = "Erf"  # float, and so is then the pooling behind it
    planned = {unit.name for unit in quantize(conv_net, rows).plan.units}
    assert "head" in planned and "pool" not in planned
    for floor in (30.0, 40.0, 50.0):
        done = quantize(conv_net, rows, least_sqnr=floor)
        assert not done.modified or done.plan.units
