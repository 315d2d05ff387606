from __future__ import annotations

import numpy as np
import pytest

from deploypipe.quantize import CALIBRATORS
from deploypipe.quantize.calibrators.auto import Auto
from deploypipe.quantize.params import activation_params

RNG = np.random.default_rng(7)


def real_error(chosen, values):
    params = activation_params(chosen)
    steps = np.clip(np.rint(values / params.scale) + params.zero_point, 0, 255)
    return float(np.sum((values - (steps - params.zero_point) * params.scale) ** 2))


@pytest.mark.parametrize(
    "values",
    [
        RNG.normal(size=100_000),
        np.abs(RNG.standard_t(3, size=100_000)),
        np.append(RNG.uniform(-1, 1, 100_000), 40.0),
        RNG.exponential(size=5_000),
    ],
)
def test_no_candidate_makes_a_smaller_error(count, values) -> None:
    histogram = count(values)
    best = real_error(Auto().range(histogram), values)
    others = [real_error(one.range(histogram), values) for one in Auto.candidates]
    assert best <= 1.02 * min(others)


def test_it_is_on_the_shelf() -> None:
    assert isinstance(CALIBRATORS.build("auto"), Auto)
