from __future__ import annotations

import numpy as np
import pytest

from deploypipe.quantize.conversions import Line, _line, measure_conversions


def test_every_conversion_costs_more_for_more_elements(target) -> None:
    found = measure_conversions(target)
    for line in (found.quantize, found.dequantize, found.transpose):
        assert line.start >= 0 and line.slope > 0
        assert line(1 << 20) > line(1 << 10)


def test_a_line_goes_through_its_points() -> None:
    line = _line((10, 100, 1000), (3 + 0.5 * 10, 3 + 0.5 * 100, 3 + 0.5 * 1000))
    assert (line.start, line.slope) == pytest.approx((3, 0.5))


def test_noise_makes_no_cost_negative() -> None:
    assert _line((10, 100, 1000), (9, 5, 4)) == Line(pytest.approx(6, abs=3), 0.0)
    assert np.isfinite(_line((10, 100, 1000), (0, 0, 0))(5))
