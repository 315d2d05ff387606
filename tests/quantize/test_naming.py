from __future__ import annotations

from deploypipe.quantize.naming import Names


def test_names_are_short_and_count_in_base_36(conv_net) -> None:
    names = Names(conv_net)
    assert [names.new("q") for _ in range(38)][-3:] == ["qz", "q10", "q11"]


def test_names_that_the_model_has_are_passed_over(parse) -> None:
    names = Names(
        parse("agraph (float[1] q0) => (float[1] q2) <float[1] q1={1.0}> { q2 = Add(q0, q1) }")
    )
    assert [names.new("q"), names.new("q"), names.new("s")] == ["q3", "q4", "s0"]
