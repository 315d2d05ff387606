from __future__ import annotations

from deploypipe.quantize import CALIBRATORS, Range


def test_minmax_covers_the_exact_extremes(count) -> None:
    low, high = -0.3330000042915344, 1.1109999418258667
    assert CALIBRATORS.build("minmax").range(count([low, 0, high])) == Range(low, high)
