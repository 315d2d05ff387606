from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.passes.sub_div_to_add_mul import SubDivToAddMul

VECTOR = np.array([0.5, -3, 7, 1e-3], np.float32)


@pytest.mark.parametrize(("op", "instead"), [("Sub", "Add"), ("Div", "Mul")])
@pytest.mark.parametrize("constant", [np.float32(3), VECTOR])
def test_a_constant_changes_its_side(parse, ops, same, op, instead, constant):
    text = f"g (float[N,4] x) => (float[N,4] y) {{ y = {op}(x, c) }}"
    before, after = parse(text, c=constant), parse(text, c=constant)
    assert SubDivToAddMul()(after).modified
    assert ops(after) == [instead]
    same(before, after)


@pytest.mark.parametrize("constant", [0.0, 1e-40, 3e38, np.nan])
def test_a_divisor_without_an_inverse_stays(parse, constant):
    text = "g (float[N,4] x) => (float[N,4] y) { y = Div(x, c) }"
    outcome = SubDivToAddMul()(parse(text, c=np.float32(constant)))
    assert not outcome.modified and "no normal inverse" in outcome.refusals[0]


@pytest.mark.parametrize(
    "text",
    [
        "g (float[N,4] x) => (float[N,4] y) { y = Sub(c, x) }",
        "g (float[N,4] x, float[4] z) => (float[N,4] y) { y = Div(x, z) }",
        "g (int64[N,4] x) => (int64[N,4] y) { y = Div(x, i) }",
    ],
)
def test_others_stay(parse, text):
    given = {"c": VECTOR} if "c" in text else {"i": np.array([2])} if "i)" in text else {}
    assert not SubDivToAddMul()(parse(text, **given)).modified


def test_the_division_of_a_gelu_stays(parse):
    text = "g (float[N,4] x) => (float[N,4] y) { a = Div(x, c)\ny = Erf(a) }"
    outcome = SubDivToAddMul()(parse(text, c=np.float32(2**0.5)))
    assert not outcome.modified and "GELU" in outcome.refusals[0]
