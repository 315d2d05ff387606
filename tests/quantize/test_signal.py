from __future__ import annotations

import math

import numpy as np
import pytest

from deploypipe.quantize.signal import incomparable, outputs_of, sqnr_db


def of(*arrays: object) -> dict[str, np.ndarray]:
    """Outputs a, b ... of one sample."""
    return {name: np.float32(one) for name, one in zip("abc", arrays, strict=False)}


def test_a_tenth_of_the_amplitude_is_20_db() -> None:
    expected = [of([3, -4]), of([0, 5])]
    given = [of(one["a"] * np.float32(1.1)) for one in expected]
    assert sqnr_db(expected, given) == pytest.approx(20, abs=1e-4)


def test_every_output_has_its_own_ratio() -> None:
    """The small output is off by half, which the large one would hide."""
    expected, given = [of([1000], [1])], [of([1000], [0.5])]
    assert sqnr_db(expected, given) == pytest.approx((300 + 10 * np.log10(4)) / 2)


def test_only_floats_are_compared(parse, target) -> None:
    model = parse(
        "agraph (float[2] x) => (float[2] y, bool[2] z) { y = Relu(x) c = Neg(x) z = Less(x, c) }"
    )
    (found,) = outputs_of([model], [{"x": np.float32([1, -1])}], target)
    assert [list(one) for one in found] == [["y"]]


def test_an_output_of_other_rows_is_left_out() -> None:
    expected, given = [of([3, 4], [1, 2]), of([3, 4], [1])], [of([3, 4.5], [1]), of([3, 4], [1])]
    assert incomparable(expected, given) == ["b"]
    assert sqnr_db(expected, given) == pytest.approx(10 * np.log10(50 / 0.25))


def test_where_no_output_can_be_compared_there_is_no_figure() -> None:
    assert math.isnan(sqnr_db([of([1, 2])], [of([1])]))
    assert sqnr_db([{}], [{}]) == 300


def test_the_same_infinities_and_nans_count_for_nothing() -> None:
    expected = [of([3, 4, -np.inf, np.nan])]
    assert sqnr_db(expected, [of([3, 4.5, -np.inf, np.nan])]) == pytest.approx(20)
    for other in (np.inf, 0):
        assert sqnr_db(expected, [of([3, 4, other, np.nan])]) == -300
    assert sqnr_db(expected, [of([3, 4, -np.inf, 0])]) == -300
    assert sqnr_db(expected, [of([np.nan, 4, -np.inf, np.nan])]) == -300
