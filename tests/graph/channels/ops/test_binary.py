from __future__ import annotations

import numpy as np
import pytest

TWO = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {{
    a = Conv(x, wa)
    b = Conv(x, wb)
    s = {op}
    y = Conv(s, v)}}"""


def filters(channels: int, *dead: int) -> np.ndarray:
    weights = np.ones((channels, 2, 1, 1), np.float32)
    weights[list(dead)] = 0
    return weights


def readers(channels: int) -> np.ndarray:
    return np.ones((2, channels, 1, 1), np.float32)


@pytest.mark.parametrize("op", ["Add(a, b)", "Sub(a, b)"])
def test_a_sum_is_dead_only_where_both_sides_are(cut, op):
    done = cut(TWO.format(op=op), wa=filters(4, 0, 1), wb=filters(4, 1, 2), v=readers(4))
    assert done.gone["wa"] == done.gone["wb"] == {0: [1]}


def test_a_product_is_dead_where_one_side_is(cut):
    done = cut(TWO.format(op="Mul(a, b)"), wa=filters(4, 0, 1), wb=filters(4, 1, 2), v=readers(4))
    assert done.gone["wa"] == done.gone["wb"] == {0: [0, 1, 2]}


def test_a_factor_with_another_reader_stays(cut):
    """b's channel 0 is multiplied by zero, but the second output reads it."""
    text = TWO.format(op="Mul(a, b)").replace("y) {", "y, float[N,2,4,4] z) {")
    text = text.replace("y = ", "z = Conv(b, u)\ny = ")
    done = cut(text, wa=filters(3, 0), wb=filters(3), v=readers(3), u=readers(3))
    assert done.gone == {}


def test_a_sum_that_nobody_reads_takes_both_sides_along(cut):
    v = readers(3)
    v[:, 2] = 0
    done = cut(TWO.format(op="Add(a, b)"), wa=filters(3), wb=filters(3), v=v)
    assert done.gone["wa"] == done.gone["wb"] == {0: [2]}


def test_a_residual_stream_goes_only_as_a_whole(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        a = Conv(x, wa)
        r = Relu(a)
        b = Conv(r, wb)
        s = Add(b, r)
        y = Conv(s, v)}"""
    wb = np.ones((3, 3, 1, 1), np.float32)
    wb[1:] = 0
    done = cut(text, wa=filters(3, 1), wb=wb, v=readers(3))
    assert done.gone["wa"] == {0: [1]} and done.gone["wb"] == {0: [1], 1: [1]}


ONE = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {{
    a = Conv(x, wa)
    s = {op}
    y = Conv(s, v)}}"""


def test_a_constant_operand_is_cut_with_the_channels(cut):
    c = np.array([5, 0, 7], np.float32).reshape(3, 1, 1)
    done = cut(ONE.format(op="Add(a, c)"), wa=filters(3, 1), v=readers(3), c=c)
    assert done.gone["c"] == {0: [1]} and done.gone["wa"] == {0: [1]}


def test_an_added_constant_makes_of_zero_a_constant_for_the_next_bias(cut):
    c = np.array([5, 1, 7], np.float32).reshape(3, 1, 1)
    done = cut(ONE.format(op="Add(a, c)"), wa=filters(3, 1), v=readers(3), c=c)
    assert done.gone["wa"] == {0: [1]} and done.gone["c"] == {0: [1]}
    assert done.node("Conv") is done.after.graph[0]
    assert done.after.graph[-1].inputs[2].const_value.numpy().tolist() == [1, 1]


def test_two_constants_that_cancel_are_zero_only_if_one_is_zero(cut):
    c = np.array([5, -3, 7], np.float32).reshape(3, 1, 1)
    text = ONE.format(op="Add(a, c)\nt = Relu(s)").replace("Conv(s", "Conv(t")
    assert cut(text, wa=filters(3, 1), v=readers(3), c=c).gone["wa"] == {0: [1]}


@pytest.mark.parametrize("op", ["Div(a, c)", "Mul(a, c)", "Mul(c, a)"])
def test_a_scalar_scales_zero_to_zero(cut, op):
    done = cut(ONE.format(op=op), wa=filters(3, 1), v=readers(3), c=np.float32(2))
    assert done.gone["wa"] == {0: [1]}


def test_a_zero_divisor_keeps_the_zero_channel(cut):
    with np.errstate(all="ignore"):
        assert (
            cut(ONE.format(op="Div(a, c)"), wa=filters(3, 1), v=readers(3), c=np.float32(0)).gone
            == {}
        )


def test_an_infinite_factor_keeps_the_zero_channel(cut):
    c = np.array([1, np.inf, 1], np.float32).reshape(3, 1, 1)
    with np.errstate(all="ignore"):
        assert cut(ONE.format(op="Mul(a, c)"), wa=filters(3, 1), v=readers(3), c=c).gone == {}


def test_a_gate_is_cut_with_the_channels_that_it_scales(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        a = Conv(x, wa)
        p = GlobalAveragePool(a)
        q = Conv(p, wq)
        g0 = Sigmoid(q)
        s = Mul(a, g0)
        y = Conv(s, v)}"""
    wq = np.ones((3, 3, 1, 1), np.float32)
    done = cut(text, exact=False, wa=filters(3, 1), wq=wq, v=readers(3))
    assert done.gone["wa"] == {0: [1]} and done.gone["wq"] == {0: [1], 1: [1]}


def test_a_stretched_axis_is_left_alone(cut):
    """One spatial map gates all channels: it stays, and its maker's inputs are needed."""
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        a = Conv(x, wa)
        m = Conv(x, wm)
        s = Mul(a, m)
        y = Conv(s, v)}"""
    wm = np.ones((1, 2, 1, 1), np.float32)
    done = cut(text, wa=filters(3, 1), wm=wm, v=readers(3))
    assert done.gone["wa"] == {0: [1]} and "wm" not in done.gone


def column(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32).reshape(-1, 1, 1)


# What the constant channels 1 (0 from a), 2 (3 from a) become with 4 and 2 of the operand.
FUNCTIONS = {
    "Add(a, c)": [4, 5],
    "Sub(a, c)": [-4, 1],
    "Sub(c, a)": [4, -1],
    "Mul(a, c)": [0, 6],
    "Div(a, c)": [0, 1.5],
    "Min(a, c)": [0, 2],
    "Max(a, c)": [4, 3],
    "Max(a, c, a)": [4, 3],
    "Pow(a, c)": [0, 9],
    "Pow(c, a)": [1, 8],
    "Sum(a, c, c)": [8, 7],
    "Sum(a)": [0, 3],
    "Mean(a, c)": [2, 2.5],
    "PRelu(a, c)": [0, 3],
}


@pytest.mark.parametrize("op", FUNCTIONS)
def test_constants_are_computed_and_go_into_the_next_bias(cut, op):
    text = ONE.format(op=op).replace("Conv(x, wa)", "Conv(x, wa, ba)")
    ba, c = np.array([1, 0, 3], np.float32), column(1, 4, 2)
    used = {"c": c} if "c" in op else {}
    done = cut(text, exact=False, wa=filters(3, 1, 2), ba=ba, v=readers(3), **used)
    assert done.gone["wa"] == {0: [1, 2]}
    assert done.after.graph[-1].inputs[2].const_value.numpy().tolist() == [sum(FUNCTIONS[op])] * 2


@pytest.mark.parametrize(
    "op", ["Add(a, b)", "Max(a, b)", "Min(a, b)", "Pow(a, b)", "Sum(a, b)", "Mean(a, b)"]
)
def test_a_live_channel_on_one_side_is_live(cut, op):
    done = cut(TWO.format(op=op), exact=False, wa=filters(4, 0, 1), wb=filters(4, 1, 2),
               v=readers(4))  # fmt: skip
    assert done.gone["wa"] == done.gone["wb"] == {0: [1]}


@pytest.mark.parametrize(
    "op", ["Add(a, b)", "Mul(a, b)", "Max(a, b)", "Div(a, b)", "Sum(a, b)", "Mean(a, b)"]
)
def test_a_channel_that_nobody_reads_goes_from_all_operands(cut, op):
    v = readers(4)
    v[:, 2] = 0
    with np.errstate(all="ignore"):
        done = cut(TWO.format(op=op), exact=False, wa=filters(4), wb=filters(4), v=v)
    assert done.gone["wa"] == done.gone["wb"] == {0: [2]}


SHAPES = [(3, 1, 1), (1, 3, 1, 1), (3, 4, 4), (1, 3, 4, 4), (3, 1, 4)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("op", ["Add(a, c)", "Mul(c, a)", "PRelu(a, c)", "Sum(c, a)"])
def test_an_operand_of_any_shape_loses_its_channel(cut, op, shape):
    if op.startswith("PRelu") and len(shape) > 3:
        pytest.skip("a slope has the rank of a sample")
    v, c = readers(3), (np.arange(np.prod(shape)) % 4 + 1).reshape(shape).astype(np.float32)
    v[:, 1] = 0
    done = cut(ONE.format(op=op), wa=filters(3), v=v, c=c)
    assert done.gone["c"] == {len(shape) - 3: [1]}


@pytest.mark.parametrize("shape", [(), (1,), (4,), (1, 1, 1), (4, 1), (1, 1, 1, 4)])
@pytest.mark.parametrize("op", ["Add(a, c)", "Mul(c, a)", "Max(a, c)"])
def test_an_operand_without_channels_is_stretched_and_stays(cut, op, shape):
    v, c = readers(3), (np.arange(np.prod(shape)) % 4 + 1).reshape(shape).astype(np.float32)
    v[:, 1] = 0
    done = cut(ONE.format(op=op), wa=filters(3), v=v, c=c)
    assert done.gone["wa"] == {0: [1]} and "c" not in done.gone


@pytest.mark.parametrize("shape", [(4,), (4, 1), (3, 4, 4)])
def test_an_operand_that_varies_over_the_pixels_makes_constants_live(cut, shape):
    c = (np.arange(np.prod(shape)) % 4 + 1).reshape(shape).astype(np.float32)
    assert cut(ONE.format(op="Add(a, c)"), wa=filters(3, 1), v=readers(3), c=c).gone == {}


def test_one_spatial_map_added_to_zero_is_live(cut):
    text = TWO.format(op="Add(a, b)")
    wb = np.ones((1, 2, 1, 1), np.float32)
    assert cut(text, wa=filters(3, 1), wb=wb, v=readers(3)).gone == {}


def test_a_map_that_is_constant_stretches_over_all_channels(cut):
    text = TWO.format(op="Mul(a, b)").replace("Conv(x, wb)", "Conv(x, wb, bb)")
    wb, bb = np.zeros((1, 2, 1, 1), np.float32), np.array([2], np.float32)
    done = cut(text, wa=filters(3, 1), wb=wb, bb=bb, v=readers(3))
    assert done.gone["wa"] == {0: [1]}


def test_an_operand_of_unknown_size_keeps_the_axis_whole(cut):
    """b may have one channel or three."""
    text = """g (float[N,2,4,4] x, float[N,C,4,4] b) => (float[N,2,4,4] y) {
        a = Conv(x, wa)
        s = Mul(a, b)
        y = Conv(s, v)}""".replace("[N,C,4,4]", "[N,H,4,4]")
    assert cut(text, wa=filters(5, 1), v=readers(5)).gone == {}


NARROW = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {{
    a = Conv(x, wa)
    i = Cast <to = {code}> (a)
    j = {op}
    k = Cast <to = 1> (j)
    y = Conv(k, v)}}"""


@pytest.mark.parametrize("code", [3, 6])
@pytest.mark.parametrize("op", ["Add(i, i)", "Sub(i, i)", "Div(i, i)", "Max(i, i)", "Pow(i, i)"])
def test_integers_are_live(parse, flow, code, op):
    """They have no NaN to tell what is not known."""
    found = flow(parse(NARROW.format(code=code, op=op), wa=filters(3, 1), v=readers(3)))
    known = {v.name: vector for (v, axis), vector in found.values.items() if axis == 1}
    assert np.isnan(known["j"]).all() and known["i"][1] == 0


def test_integers_times_zero_are_zero(cut):
    done = cut(NARROW.format(code=6, op="Mul(i, i)"), wa=filters(3, 1), v=readers(3))
    assert done.gone["wa"] == {0: [1]}


WHERE = """g (float[N,2,4,4] x, bool[{shape}] c) => (float[N,2,4,4] y) {{
    a = Conv(x, wa)
    b = Conv(x, wb)
    s = Where(c, a, b)
    y = Conv(s, v)}}"""


@pytest.mark.parametrize("shape", ["", "1", "4,4", "N,1,4,4"])
def test_a_choice_is_constant_where_both_sides_are_that_constant(cut, shape):
    text = WHERE.format(shape=shape) if shape else WHERE.replace("[{shape}]", "").format()
    done = cut(text, wa=filters(4, 0, 1), wb=filters(4, 1, 2), v=readers(4))
    assert done.gone["wa"] == done.gone["wb"] == {0: [1]}


@pytest.mark.parametrize("shape", ["4,1,1", "N,4,4,4", "H,1,1"])
def test_a_choice_that_differs_between_channels_keeps_them(cut, shape):
    text = WHERE.format(shape=shape)
    weights = {"wa": filters(4, 0, 1), "wb": filters(4, 1, 2), "v": readers(4)}
    if shape.startswith("H"):
        weights = {"wa": filters(5, 0, 1), "wb": filters(5, 1, 2), "v": readers(5)}
    assert cut(text, **weights).gone == {}


def test_a_choice_that_nobody_reads_goes_from_both_sides(cut):
    v = readers(4)
    v[:, 2] = 0
    done = cut(WHERE.format(shape="4,4"), wa=filters(4), wb=filters(4), v=v)
    assert done.gone["wa"] == done.gone["wb"] == {0: [2]}


def test_a_slope_of_a_negative_constant_is_used(cut):
    text = ONE.format(op="PRelu(a, c)").replace("Conv(x, wa)", "Conv(x, wa, ba)")
    ba = np.array([1, -4, 3], np.float32)
    done = cut(text, wa=filters(3, 1), ba=ba, v=readers(3), c=column(1, 0.5, 2))
    assert done.gone["c"] == {0: [1]}
    assert done.after.graph[-1].inputs[2].const_value.numpy().tolist() == [-2, -2]


def test_ops_outside_the_family_pin(cut):
    text = ONE.format(op="Mod <fmod = 1> (a, c)")
    assert cut(text, wa=filters(3, 1), v=readers(3), c=np.float32(3)).gone == {}
