from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.channels.quantized import add_codes, codes_exact, is_dequantized, known_array

TEXT = """g (float[N,2] x, float s) => (float[N,3] y) {
    xq = QuantizeLinear(x, sx, zx)
    xd = DequantizeLinear(xq, sx, zx)
    wd = DequantizeLinear <axis = AXIS> (w, sw ZERO)
    bd = DequantizeLinear <axis = 0> (b, sb)
    cd = DequantizeLinear(b, s)
    y = Gemm(xd, wd, bd)}"""


@pytest.fixture
def values(parse):
    def build(axis: int = 1, zero=None, sw=None, sb=None, **more):
        sw = np.array([0.5, 0.25, 2], np.float32) if sw is None else sw
        sb = np.asarray(sw) * np.float32(0.5) if sb is None else sb
        arrays = {"w": np.array([[1, -2, 3], [4, 5, -6]], np.int8), "sw": sw, "sb": sb}
        arrays |= {"sx": np.float32(0.5), "zx": np.int8(0), "b": np.array([1, 2, 3], np.int32)}
        text = TEXT.replace("AXIS", str(axis)).replace("ZERO", "" if zero is None else ", zw")
        model = parse(text, **{**arrays, **more}, **({} if zero is None else {"zw": zero}))
        return {
            value.name: value for node in model.graph for value in (*node.inputs, *node.outputs)
        }

    return build


def test_weights_are_read_through_their_scales(values):
    found = values()
    assert is_dequantized(found["wd"]) and not is_dequantized(found["w"])
    wanted = np.array([[0.5, -0.5, 6], [2, 1.25, -12]])
    np.testing.assert_array_equal(known_array(found["wd"]), wanted)
    assert known_array(found["wd"]).dtype == np.float32
    np.testing.assert_array_equal(known_array(found["w"]), [[1, -2, 3], [4, 5, -6]])


@pytest.mark.parametrize("zero", [np.array([1, -2, 0], np.int8), np.int8(3)])
def test_zero_points_are_taken_off(values, zero):
    found = values(zero=zero)
    wanted = (np.array([[1, -2, 3], [4, 5, -6]]) - zero) * [0.5, 0.25, 2]
    if np.ndim(zero) == 0:
        found = values(zero=zero, sw=np.float32(0.5), sb=np.float32(0.25))
        wanted = (np.array([[1, -2, 3], [4, 5, -6]]) - 3) * 0.5
    np.testing.assert_array_equal(known_array(found["wd"]), wanted)


def test_scales_may_lie_along_any_axis(values):
    found = values(axis=0, sw=np.array([2, 3], np.float32), sb=np.float32(1))
    np.testing.assert_array_equal(known_array(found["wd"]), [[2, -4, 6], [12, 15, -18]])


def test_what_is_computed_is_not_known(values):
    found = values()
    assert known_array(found["xd"]) is None and known_array(found["cd"]) is None
    assert known_array(None) is None and not is_dequantized(found["cd"])


def test_a_bias_with_the_scale_of_the_products_takes_codes(values):
    found = values()
    assert codes_exact(found["xd"], found["wd"], found["bd"])
    add_codes(found["bd"], np.array([0.25, -0.25, 5.0]))
    assert found["b"].const_value.numpy().tolist() == [2, 0, 8]
    assert found["b"].const_value.numpy().dtype == np.int32


def test_other_biases_do_not(values):
    found = values(sb=np.array([0.25, 0.125, 0.9], np.float32))
    assert not codes_exact(found["xd"], found["wd"], found["bd"])
    found = values()
    assert not codes_exact(found["xd"], found["wd"], None)
    assert not codes_exact(found["x"], found["wd"], found["bd"])
    assert not codes_exact(found["xd"], found["w"], found["bd"])
    rows = values(axis=0, sw=np.array([2, 3], np.float32), sb=np.ones(3, np.float32))
    assert not codes_exact(rows["xd"], rows["wd"], rows["bd"])


def test_codes_end_at_the_ends_of_int32(values):
    found = values()
    add_codes(found["bd"], np.array([1e12, -1e12, 0]))
    limits = np.iinfo(np.int32)
    assert found["b"].const_value.numpy().tolist() == [limits.max, limits.min, 3]
