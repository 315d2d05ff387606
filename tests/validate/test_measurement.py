"""Measurements keep raw values and tell only what these carry."""

import pytest

from deploypipe.validate.measurement import Measurement


def of(count):
    return Measurement("model", "ms", tuple(float(i) for i in range(1, count + 1)))


def test_everything_is_computed_from_the_raw_values():
    measured = of(101)
    assert (measured.p50, measured.mean, measured.p90, measured.spread) == (51, 51, 91, 50)
    assert measured.summary() == {"p50": 51, "p90": 91, "p99": None, "n": 101}


@pytest.mark.parametrize(("count", "told"), [(63, (False, False)), (64, (True, False)),
                                             (661, (True, False)), (662, (True, True))])  # fmt: skip
def test_percentiles_are_told_only_where_the_count_carries_them(count, told):
    assert (of(count).p90 is not None, of(count).p99 is not None) == told


def test_nothing_measured_is_no_measurement():
    with pytest.raises(ValueError, match="'model' has no values"):
        of(0)


def test_thinning_keeps_the_ends_and_the_order():
    thin = of(1000).thinned(10)
    assert len(thin) == 10
    assert (thin[0], thin[-1]) == (1.0, 1000.0)
    assert thin == sorted(thin)


def test_few_values_are_not_thinned():
    assert of(3).thinned(10) == [1.0, 2.0, 3.0]
