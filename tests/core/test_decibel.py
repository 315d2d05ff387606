from __future__ import annotations

import math

import pytest

from deploypipe.core.decibel import decibel


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [
        (100, 1, 20),
        (1, 10, -10),
        (1, 0, math.inf),
        (0, 0, math.inf),
        (0, 1, -math.inf),
        (1, math.nan, -math.inf),
        (1, math.inf, -math.inf),
        (math.nan, 1, -math.inf),
    ],
)
def test_signal_over_noise(signal: float, noise: float, expected: float) -> None:
    assert decibel(signal, noise) == pytest.approx(expected)
