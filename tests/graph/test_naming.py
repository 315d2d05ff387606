from __future__ import annotations

from deploypipe.graph.naming import base_36


def test_numbers_become_the_shortest_text():
    assert [base_36(number) for number in (0, 9, 10, 35, 36, 36**2)] == [
        "0", "9", "a", "z", "10", "100",
    ]  # fmt: skip
    assert len({base_36(number) for number in range(5000)}) == 5000
