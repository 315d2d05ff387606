"""erf and Gelu, to the last digits of a double."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deploypipe.graph.channels.proof.erf import erf


def test_erf_has_the_digits_of_a_double():
    x = np.concatenate([np.linspace(-7, 7, 40_001), [0.46875, 1e-300, -0.0, np.inf, -np.inf]])
    expected = np.array([math.erf(number) for number in x])
    np.testing.assert_allclose(erf(x), expected, rtol=1e-15, atol=0)


def test_erf_of_no_number_is_no_number():
    assert np.isnan(erf(np.array([np.nan]))).all()


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_is_what_onnxruntime_gives(approximate, same_as_onnxruntime):
    x = np.linspace(-5, 5, 101, dtype=np.float32).reshape(1, 101)
    same_as_onnxruntime("Gelu", {"x": x}, approximate=approximate)


def test_gelu_has_the_digits_of_a_double(alone):
    x = np.linspace(-5, 5, 101)
    expected = [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x]
    np.testing.assert_allclose(alone("Gelu", {"x": x}), expected, rtol=1e-12, atol=1e-16)
