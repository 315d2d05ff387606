from __future__ import annotations

import numpy as np
import pytest

from deploypipe.core.errors import UserError
from deploypipe.quantize import CALIBRATORS, Range


def percentile(share: float):
    return CALIBRATORS.build({"percentile": {"share": share}})


def test_one_outlier_in_ten_thousand_is_clipped_at_each_end(count) -> None:
    values = np.concatenate([np.full(4999, -1.0), np.full(4999, 2.0), [-500.0, 500.0]])
    assert percentile(99.98).range(count(values)) == Range(-1.0078125, 2.015625)


def test_no_more_than_the_share_is_clipped(count) -> None:
    values = np.concatenate([np.full(4999, -1.0), np.full(4999, 2.0), [-500.0, 500.0]])
    assert percentile(99.99).range(count(values)) == Range(-500, 500)


def test_a_share_of_100_is_minmax(count) -> None:
    histogram = count(np.random.default_rng(0).normal(size=999))
    assert percentile(100.0).range(histogram) == Range(histogram.low, histogram.high)


def test_the_middle_of_a_tiny_share_is_still_a_range(count) -> None:
    chosen = percentile(0.001).range(count([-1, 0, 0, 0, 3]))
    assert -1 <= chosen.low <= chosen.high <= 3


def test_one_sided_tensors_keep_their_exact_end(count) -> None:
    values = np.concatenate([np.zeros(5000), np.linspace(0, 1, 5000)])
    assert percentile(99.99).range(count(values)).low == 0


@pytest.mark.parametrize("share", [0.0, -1.0, 100.5])
def test_a_share_outside_0_to_100_is_refused(share: float) -> None:
    with pytest.raises(UserError, match=r"share must be in \(0, 100\]"):
        percentile(share)
