from __future__ import annotations

import pytest

from deploypipe.quantize.noise import Noise
from deploypipe.quantize.repair import repair

NOISE = Noise({"quiet": 1e-5, "loud": 1e-2, "middle": 1e-3}, 0.011)


@pytest.mark.parametrize(
    ("floor", "spared"),
    [
        (19, []),  # all together: 19.6 dB
        (25, ["loud"]),  # without it: 29.6 dB
        (40, ["loud", "middle"]),
        (60, ["loud", "middle", "quiet"]),
    ],
)
def test_the_noisiest_go_first_and_no_more_than_needed(floor, spared):
    assert NOISE.to_spare(floor) == spared


def test_errors_that_add_up_worse_than_powers_are_allowed_for():
    conspiring = Noise(NOISE.power, 0.11)
    assert conspiring.to_spare(25) == ["loud", "middle"]


def test_a_promise_that_does_not_hold_takes_more():
    tried = []

    def make(spared):
        tried.append(list(spared))
        return 29 if len(spared) == 1 else 45  # the estimate was 29.96 dB

    assert repair(NOISE, 29.5, make) == ["loud", "middle"]
    assert tried == [["loud"], ["loud", "middle"]]


def test_in_the_end_everything_is_float():
    assert set(repair(NOISE, 20, lambda _: 0.0)) == set(NOISE.power)
