from __future__ import annotations

import itertools

import numpy as np
import pytest

from deploypipe.quantize.costs import Costs
from deploypipe.quantize.cut import Crossing
from deploypipe.quantize.noise import Noise, power_of
from deploypipe.quantize.sparing import cheapest_at, noisiest

NOISE = Noise({"quiet": 1e-5, "loud": 1e-2, "middle": 1e-3}, 0.01101)


@pytest.mark.parametrize(
    ("floor", "spared"),
    [
        (19, []),  # all together: 19.6 dB
        (25, ["loud"]),  # without it: 29.6 dB
        (40, ["loud", "middle"]),
        (60, ["loud", "middle", "quiet"]),
    ],
)
def test_the_noisiest_go_first_and_no_more_than_needed(floor, spared):
    assert noisiest(NOISE, power_of(floor)) == spared


def test_errors_that_add_up_worse_than_powers_are_allowed_for():
    conspiring = Noise(NOISE.power, 0.11)
    assert noisiest(conspiring, power_of(25)) == ["loud", "middle"]


def test_a_tensor_that_was_rounded_for_two_units_counts_once():
    assert noisiest(Noise(NOISE.power, 0.0022), power_of(26.5)) == []


def costs(floats, ints, crossings=()):
    names = "abcdefgh"
    return Costs(
        dict(zip(names, floats, strict=False)), dict(zip(names, ints, strict=False)), crossings
    )


def test_noise_goes_where_it_costs_least():
    """The noisiest unit gains most by far: two others go."""
    known = costs([100, 12, 12], [10, 10, 10])
    noise = Noise({"a": 5e-3, "b": 3e-3, "c": 3e-3}, 1.1e-2)
    assert noisiest(noise, 6e-3) == ["a"]
    assert cheapest_at(known, 1.0)(noise, 6e-3) == ["b", "c"]


def test_what_conversions_cost_counts():
    """To take out the middle of three costs two conversions."""
    chain = (Crossing("a", ("b",), 50, 50), Crossing("b", ("c",), 50, 50))
    known = costs([20, 20, 25], [10, 10, 10], chain)
    noise = Noise({"a": 1e-3, "b": 1.5e-3, "c": 1.5e-3}, 4e-3)
    spared = cheapest_at(known, 1.0)(noise, 2.6e-3)
    assert "b" not in spared or len(spared) > 1


def test_units_that_are_float_already_stay_it():
    known = costs([100, 100], [10, 10])
    assert cheapest_at(known, 1.0)(Noise({"a": 1e-3}, 1e-3), 1.0) == []
    assert cheapest_at(known, 1.0)(Noise({"a": 1e-3}, 1e-3), 1e-9) == ["a"]


@pytest.mark.parametrize("seed", range(12))
def test_nothing_that_is_as_quiet_is_cheaper(seed):
    """Against all 64 choices."""
    rng = np.random.default_rng(seed)
    names, floats = "abcdef", rng.uniform(10, 100, 6)
    ints = floats * rng.uniform(0.2, 1.1, 6)
    crossings = tuple(
        Crossing(maker, tuple(rng.choice(list(names), 2, replace=False)), *rng.uniform(0, 30, 2))
        for maker in names
    )
    noise = Noise(dict(zip(names, rng.exponential(1e-3, 6), strict=True)), 6e-3)
    spared = cheapest_at(costs(floats, ints, crossings), 1.0)(noise, 3e-3)
    slow, fast = dict(zip(names, floats, strict=True)), dict(zip(names, ints, strict=True))

    def time(kept):
        total = sum(fast[n] if n in kept else slow[n] for n in names)
        for one in crossings:
            inside = [reader in kept for reader in one.readers]
            if one.maker in kept:
                total += one.dequantize * (not all(inside))
            else:
                total += one.quantize * any(inside)
        return total

    kept = frozenset(names) - frozenset(spared)
    assert noise.of(kept) <= 3e-3
    for size in range(7):
        for other in map(frozenset, itertools.combinations(names, size)):
            if noise.of(other) <= noise.of(kept):
                assert time(kept) <= time(other) + 1e-6
