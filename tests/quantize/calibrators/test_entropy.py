from __future__ import annotations

import numpy as np
import pytest

from deploypipe.quantize import CALIBRATORS

RNG = np.random.default_rng(5)
VALUES = RNG.normal(size=200_000)


def chosen(histogram, **options):
    return CALIBRATORS.build({"entropy": options}).range(histogram)


def test_a_lonely_outlier_is_clipped(count) -> None:
    found = chosen(count(np.append(VALUES, 100.0)))
    assert 2.5 < found.high < 12


def test_even_values_are_all_kept(count) -> None:
    values = RNG.uniform(-1, 3, 200_000)
    found = chosen(count(values))
    assert found.low == pytest.approx(values.min(), rel=0.02)
    assert found.high == pytest.approx(values.max(), rel=0.02)


def test_zeros_do_not_count(count) -> None:
    positive = np.abs(VALUES[:9000])
    assert chosen(count(positive)) == chosen(count(np.append(positive, np.zeros(5000))))


def test_a_tensor_that_was_always_zero_has_an_empty_range(count) -> None:
    found = chosen(count(np.zeros(5)))
    assert (found.low, found.high) == (0, 0)


def test_too_few_bins_are_refused() -> None:
    with pytest.raises(Exception, match="bins must be at least 512, got 100"):
        CALIBRATORS.build({"entropy": {"bins": 100}})
