from __future__ import annotations

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


def test_in_the_end_everything_is_float():
    assert set(repair(NOISE, 20, lambda _: 0.0)) == set(NOISE.power)
