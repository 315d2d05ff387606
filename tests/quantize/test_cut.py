"""Against all choices, one by one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from deploypipe.quantize.cut import Crossing, cheapest


def price(chosen, in_float, in_int, crossings):
    total = sum(in_int[name] if name in chosen else in_float[name] for name in in_float)
    for one in crossings:
        sides = {reader in chosen for reader in one.readers}
        if one.maker in chosen:
            total += one.dequantize * (False in sides)
        else:
            total += one.quantize * (True in sides)
    return total


def test_a_unit_that_gains_less_than_its_borders_cost_stays_float():
    into, out = Crossing(None, ("conv",), 2, 2), Crossing("conv", (None,), 2, 2)
    assert cheapest({"conv": 10}, {"conv": 7}, [into, out]) == frozenset()
    assert cheapest({"conv": 10}, {"conv": 5}, [into, out]) == {"conv"}


def test_a_slow_unit_between_fast_ones_runs_in_8_bits_if_its_borders_cost_more():
    def chain(cost):
        return [
            Crossing(None, ("a",), 1, 1),
            Crossing("a", ("slow",), cost, cost),
            Crossing("slow", ("b",), cost, cost),
            Crossing("b", (None,), 1, 1),
        ]

    in_float, in_int = {"a": 20, "slow": 3, "b": 20}, {"a": 5, "slow": 6, "b": 5}
    assert cheapest(in_float, in_int, chain(2)) == {"a", "slow", "b"}
    assert cheapest(in_float, in_int, chain(1)) == {"a", "b"}


def test_a_tensor_is_converted_once_for_all_its_readers():
    wide = [Crossing("a", ("b", "c", "d"), 5, 5), Crossing(None, ("a",), 0, 0)]
    in_float, in_int = dict.fromkeys("abcd", 3.0), {"a": 9.0, "b": 1.0, "c": 1.0, "d": 1.0}
    assert cheapest(in_float, in_int, wide) == {"b", "c", "d"}


def test_a_forbidden_side_is_not_taken():
    one = [Crossing("a", ("b",), 4, 4)]
    assert cheapest({"a": 1, "b": math.inf}, {"a": 6, "b": 9}, one) == {"b"}
    assert cheapest({"a": 9, "b": 9}, {"a": math.inf, "b": 4}, one) == {"b"}
    with pytest.raises(ValueError, match="'b' can run neither"):
        cheapest({"a": 1, "b": math.inf}, {"a": 1, "b": math.inf}, one)


@pytest.mark.parametrize("seed", range(40))
def test_no_choice_is_cheaper(seed):
    rng = np.random.default_rng(seed)
    names = [f"u{i}" for i in range(7)]
    in_float, in_int = ({n: float(rng.integers(0, 9)) for n in names} for _ in range(2))
    crossings = []
    for i, maker in enumerate([None, *names]):
        later = [*names[i:], None]
        readers = rng.choice(len(later), min(len(later), int(rng.integers(1, 4))), replace=False)
        cost = [float(c) for c in rng.integers(0, 5, 2)]
        crossings.append(Crossing(maker, tuple(later[r] for r in readers), *cost))
    choices = [set(c) for k in range(8) for c in itertools.combinations(names, k)]
    best = min(price(choice, in_float, in_int, crossings) for choice in choices)
    found = cheapest(in_float, in_int, crossings)
    assert price(found, in_float, in_int, crossings) == best
