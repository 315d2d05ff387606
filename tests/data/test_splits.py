from __future__ import annotations

import random

import pytest

from deploypipe.core.errors import UserError
from deploypipe.data.splits import ordered, take, without


def test_the_order_depends_on_content_and_seed_not_on_the_files_order() -> None:
    digests = [f"d{i}" for i in range(50)]
    shuffled = random.Random(0).sample(digests, 50)
    contents = [digests[group[0]] for group in ordered(digests, 3)]
    assert contents == [shuffled[group[0]] for group in ordered(shuffled, 3)]
    assert contents != [digests[group[0]] for group in ordered(digests, 4)]
    assert contents != digests


def test_the_order_is_pinned() -> None:
    assert ordered(["a", "b", "c", "d"], 0) == [[3], [0], [2], [1]]


def test_equal_content_stays_together_in_one_split() -> None:
    digests = [str(i % 10) for i in range(30)]
    taken, rest = take(ordered(digests, 0), 12, 30, "validation")
    left = {digests[row] for group in rest for row in group}
    assert len(taken) == 12
    assert not left & {digests[row] for row in taken}


def test_a_group_too_large_for_the_rest_is_passed_over() -> None:
    taken, rest = take([[0, 1], [2, 3, 4], [5]], 3, 6, "x")
    assert (taken, rest) == ([0, 1, 5], [[2, 3, 4]])


@pytest.mark.parametrize(
    ("groups", "count", "total", "says"),
    [
        ([[0], [1]], 3, 2, "x: 3 samples were asked for, only 2 exist. Ask for 2 or fewer"),
        ([[0], [1]], 3, 5, "only 2 of the 5 that exist are free"),
        ([[0, 1], [2, 3]], 3, 4, "2 can be taken without parting samples of equal content"),
    ],
)
def test_too_high_a_count_says_how_many_exist(
    groups: list[list[int]], count: int, total: int, says: str
) -> None:
    with pytest.raises(UserError) as caught:
        take(groups, count, total, "x")
    assert says in str(caught.value)


def test_barred_content_is_left_out_and_counted() -> None:
    assert without([[0, 3], [1], [2]], ["a", "b", "c", "a"], {"a", "z"}) == ([[1], [2]], 2)
