from __future__ import annotations

import numpy as np
import pytest

from deploypipe.quantize.signal import outputs_of, sqnr_db


def test_a_tenth_of_the_amplitude_is_20_db() -> None:
    expected = [[np.float32([3, -4])], [np.float32([0, 5])]]
    given = [[a * np.float32(1.1) for a in one] for one in expected]
    assert sqnr_db(expected, given) == pytest.approx(20, abs=1e-4)


def test_every_output_has_its_own_ratio() -> None:
    """The small output is off by half, which the large one would hide."""
    expected = [[np.float32([1000]), np.float32([1])]]
    given = [[np.float32([1000]), np.float32([0.5])]]
    assert sqnr_db(expected, given) == pytest.approx((300 + 10 * np.log10(4)) / 2)


def test_only_floats_are_compared(parse, target) -> None:
    model = parse(
        "agraph (float[2] x) => (float[2] y, bool[2] z) { y = Relu(x) c = Neg(x) z = Less(x, c) }"
    )
    (found,) = outputs_of([model], [{"x": np.float32([1, -1])}], target)
    assert [len(one) for one in found] == [1]
