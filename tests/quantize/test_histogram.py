from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from deploypipe.quantize.histogram import Counter, Histogram, NotFiniteError

RNG = np.random.default_rng(0)
VALUES = (RNG.normal(size=3001) * RNG.choice([1e-6, 1.0, 1e6], 3001)).astype(np.float32)


def counted(*arrays: np.ndarray) -> Histogram:
    counter = Counter()
    for array in arrays:
        counter.add(array)
    return counter.histogram()


def same(a: Histogram, b: Histogram) -> bool:
    figures = [(h.low, h.high, h.mean_low, h.mean_high, h.elements) for h in (a, b)]
    return figures[0] == figures[1] and np.array_equal(a.counts, b.counts)


def test_order_within_and_between_samples_does_not_matter_to_the_last_bit() -> None:
    assert same(counted(VALUES), counted(RNG.permutation(VALUES)))
    parts = np.split(VALUES, range(100, len(VALUES), 100))
    assert same(counted(*parts), counted(*reversed(parts)))


@pytest.mark.parametrize("size", [1, 7, 1000, 3000])
def test_grouping_does_not_matter_to_the_counts(size: int) -> None:
    parts = np.split(VALUES, range(size, len(VALUES), size))
    np.testing.assert_array_equal(counted(VALUES).counts, counted(*parts).counts)


def test_a_tiny_first_batch_does_not_set_the_resolution() -> None:
    small, large = np.float32([1e-6]), np.float32([10, 20, 40])
    assert same(counted(small, large), counted(large, small))


def test_extremes_are_exact_and_bins_end_there() -> None:
    histogram = counted(np.float32([-3.14159, 0.1, 2.71828]))
    lower, upper, counts = histogram.bins()
    assert (histogram.low, histogram.high) == (np.float32(-3.14159), np.float32(2.71828))
    assert (lower[0], upper[-1]) == (histogram.low, histogram.high)
    assert counts.tolist() == [1, 1, 1]


def test_every_value_lies_in_its_bin_and_bins_ascend() -> None:
    histogram = counted(VALUES)
    lower, upper, counts = histogram.bins()
    ordered = np.sort(VALUES).astype(float)
    assert (np.repeat(lower, counts) <= ordered).all()
    assert (ordered <= np.repeat(upper, counts)).all()
    assert (np.diff(lower) > 0).all()
    assert histogram.total == len(VALUES)


def test_bins_are_a_128th_of_their_values() -> None:
    lower, upper, _ = counted(np.float32([0.5, 1.0, 1.005, 1.01, 2.0])).bins()
    assert (lower[1], upper[1]) == (1.0, 1.0078125)


def test_negative_zero_is_zero() -> None:
    minus, plus = counted(np.float32([-0.0])), counted(np.float32([0.0]))
    assert str(minus.low) == str(plus.low) == "0.0"
    assert minus.zeros == plus.zeros == 1


@pytest.mark.parametrize(("bad", "word"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_what_is_not_finite_is_refused_and_nothing_counted(bad: float, word: str) -> None:
    counter = Counter()
    counter.add(np.float32([1, 2]))
    with pytest.raises(NotFiniteError, match=word):
        counter.add(np.float32([5, bad]))
    assert same(counter.histogram(), counted(np.float32([1, 2])))


def test_an_empty_array_counts_nothing() -> None:
    counter = Counter()
    counter.add(np.zeros((0, 3), np.float32))
    with pytest.raises(ValueError, match="no value"):
        counter.histogram()


def test_strided_arrays_are_counted_by_value() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert same(counted(array[:, ::2]), counted(np.float32([0, 2, 4, 6, 8, 10])))


def test_memory_does_not_grow_with_the_number_of_batches() -> None:
    counter, batch = Counter(), RNG.normal(size=100_000).astype(np.float32)

    def grown(batches: int) -> int:
        tracemalloc.start()
        for _ in range(batches):
            counter.add(batch)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    grown(40)
    assert grown(400) < 1.2 * grown(40) < 8_000_000


def test_of_a_large_array_every_nth_value_counts_n_times() -> None:
    array = RNG.normal(size=300_000).astype(np.float32)
    counter = Counter()
    counter.add(array, start=12345)
    histogram = counter.histogram()
    assert (histogram.low, histogram.high) == (array.min(), array.max())
    assert abs(histogram.total - array.size) < 0.01 * array.size
    lower, upper, counts = histogram.bins()
    spread = np.average(((lower + upper) / 2) ** 2, weights=counts)
    assert spread == pytest.approx(1, abs=0.05)


def test_means_of_extremes_are_exact_in_any_order() -> None:
    arrays = [np.float32([low, 1.0 + low]) for low in (1e-8, 3e7, -2.5, 0.1, -3e7)]
    one, two = Counter(), Counter()
    for array in arrays:
        one.add(array)
    for array in reversed(arrays):
        two.add(array)
    assert same(one.histogram(), two.histogram())
    assert one.histogram().mean_low == math.fsum(float(a[0]) for a in arrays) / len(arrays)
