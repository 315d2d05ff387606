from __future__ import annotations

import math

import numpy as np

from deploypipe.quantize.exact_sum import ExactSum

RNG = np.random.default_rng(2)


def test_any_order_gives_the_same_bits_and_the_right_ones() -> None:
    arrays = (RNG.normal(size=(500, 6)) * 10.0 ** RNG.integers(-8, 8, (500, 6))).astype(np.float32)
    one, two = ExactSum(), ExactSum()
    for array in arrays:
        one.add(array)
    for array in RNG.permutation(arrays):
        two.add(array)
    exact = [np.float32(math.fsum(map(float, column)) / 500) for column in arrays.T]
    np.testing.assert_array_equal(one.mean(), exact)
    np.testing.assert_array_equal(one.mean(), two.mean())
