from __future__ import annotations

import numpy as np
import pytest

TEXT = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {{
    a = Conv(x, wa)
    b = Conv(x, wb, bb)
    s = {op}
    y = Conv(s, v)}}"""


def weights(*bias: float, dead: tuple[int, ...] = ()) -> dict[str, np.ndarray]:
    """b is all constant; the dead channels of a are zero."""
    wa = (np.arange(6) % 3 + 1).reshape(3, 2, 1, 1).astype(np.float32)
    wa[list(dead)] = 0
    zero, v = np.zeros((3, 2, 1, 1), np.float32), np.ones((2, 3, 1, 1), np.float32)
    return {"wa": wa, "wb": zero, "bb": np.array(bias, np.float32), "v": v}


@pytest.mark.parametrize(
    "op", ["Add(a, b)", "Mul(b, a)", "Sub(b, a)", "Max(a, b, a)", "PRelu(a, b)"]
)
def test_a_constant_operand_takes_the_place_of_what_computed_it(cut, op):
    done = cut(TEXT.format(op=op), **weights(1, 2, 3))
    assert done.ops == ["Conv", op[: op.index("(")], "Conv"]
    assert "b: is constant, and so is what reads it" in done.changes


@pytest.mark.parametrize("dead", [(1,), (0, 2)])
@pytest.mark.parametrize("bias", [(1, 2, 3), (1, 0, 3), (0, 2, 0)])
def test_it_has_the_channels_that_are_left(cut, dead, bias):
    done = cut(TEXT.format(op="Add(a, b)"), **weights(*bias, dead=dead))
    assert done.gone["wa"] == {0: list(dead)}


def test_an_operand_that_gives_the_result_its_shape_stays(cut):
    """The other operand is one map: without b, nothing would say how many channels there are."""
    arrays = weights(1, 2, 3)
    arrays["wa"] = arrays["wa"][:1]
    done = cut(TEXT.format(op="Add(a, b)"), **arrays)
    assert done.ops.count("Conv") == 3


def test_a_slope_cannot_be_stretched_over_a_constant(cut):
    done = cut(TEXT.format(op="PRelu(b, a)"), **weights(-1, -2, -3))
    assert done.ops.count("Conv") == 3


def test_both_operands_may_be_constant(cut):
    arrays = weights(1, 2, 3, dead=(0, 1, 2))
    done = cut(TEXT.format(op="Add(a, b)"), **arrays)
    assert done.array("v").shape[1] == 1


def test_a_chain_of_constants_goes_with_its_makers(cut):
    text = TEXT.format(op="Add(a, r)").replace("s = ", "t = Sigmoid(b)\nr = Neg(t)\ns = ")
    done = cut(text, exact=False, **weights(1, 2, 3))
    assert done.ops == ["Conv", "Add", "Conv"]


def test_a_pattern_at_the_border_is_no_constant(cut):
    pool = "AveragePool <kernel_shape = [3,3], pads = [1,1,1,1], count_include_pad = 1>"
    text = TEXT.format(op="Add(a, p)").replace("s = ", f"p = {pool} (b)\ns = ")
    done = cut(text, exact=False, ort=True, **weights(1, 2, 3))
    assert "AveragePool" in done.ops


def test_what_others_read_stays_for_them(cut):
    text = TEXT.format(op="Add(a, b)").replace("y) {", "y, float[N,3,4,4] b) {")
    done = cut(text, **weights(1, 2, 3))
    assert done.ops == ["Conv", "Conv", "Add", "Conv"]


def test_half_precision_constants_stay_half_precision(cut):
    text = TEXT.format(op="Add(a, b)").replace("float[", "float16[")
    arrays = {name: array.astype(np.float16) for name, array in weights(1, 2, 3).items()}
    done = cut(text, **arrays)
    assert done.node("Add").inputs[1].const_value.numpy().dtype == np.float16
