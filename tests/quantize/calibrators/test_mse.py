from __future__ import annotations

import numpy as np
import pytest

from deploypipe.core.errors import UserError
from deploypipe.quantize import CALIBRATORS, Range

VALUES = np.random.default_rng(0).normal(size=500_000)


def error(chosen: Range, values: np.ndarray) -> float:
    scale = (chosen.high - chosen.low) / 255
    return float(
        np.mean((np.clip(np.rint(values / scale) * scale, chosen.low, chosen.high) - values) ** 2)
    )


def test_it_beats_minmax_where_there_is_an_outlier(count) -> None:
    values = np.append(VALUES, [60.0])
    chosen = CALIBRATORS.build({"mse": {"penalty": 1.0}}).range(count(values))
    assert chosen.high < 40
    assert error(chosen, values) < 0.7 * error(Range(values.min(), 60.0), values)


def test_a_penalty_spares_outliers(count) -> None:
    histogram = count(np.append(VALUES, [60.0]))
    low, high = (CALIBRATORS.build({"mse": {"penalty": p}}).range(histogram) for p in (1.0, 100.0))
    assert low.high < high.high


def test_it_never_leaves_the_observed_extremes(count) -> None:
    histogram = count([3.0, 3.5, 4.0])
    chosen = CALIBRATORS.build("mse").range(histogram)
    assert 3.0 <= chosen.low <= chosen.high <= 4.0


@pytest.mark.parametrize("values", [[0.0], [5.0], [-5.0], [0.0, -1.5]])
def test_degenerate_tensors_give_a_range(count, values: list[float]) -> None:
    chosen = CALIBRATORS.build("mse").range(count(values))
    assert min(values) <= chosen.low <= chosen.high <= max(values)


@pytest.mark.parametrize("options", [{"steps": 0}, {"penalty": 0.0}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="must be"):
        CALIBRATORS.build({"mse": options})
