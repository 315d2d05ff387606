from __future__ import annotations

import numpy as np
import pytest

from deploypipe.quantize.error import sqnr, squared_error
from deploypipe.quantize.params import QParams

RNG = np.random.default_rng(1)


@pytest.mark.parametrize("params", [QParams(0.05, 128), QParams(0.02, 128), QParams(0.3, 7)])
def test_the_error_of_a_histogram_is_that_of_its_values(count, params) -> None:
    values = RNG.normal(size=50_000).astype(np.float32)
    steps = np.clip(np.rint(values / params.scale) + params.zero_point, 0, 255)
    real = np.sum((values - (steps - params.zero_point) * params.scale) ** 2)
    assert squared_error(count(values), params) == pytest.approx(real, rel=0.02)
    expected = 10 * np.log10(np.sum(values**2) / real)
    assert sqnr(count(values), params) == pytest.approx(expected, abs=0.1)


def test_zeros_make_no_error(count) -> None:
    assert squared_error(count(np.zeros(9)), QParams(0.1, 0)) == 0
    assert sqnr(count(np.zeros(9)), QParams(0.1, 0)) == np.inf
