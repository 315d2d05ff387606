from __future__ import annotations

import numpy as np
import pytest


def ramp(*shape: int, dead: tuple[int, ...] = (), axis: int = 0) -> np.ndarray:
    """1, 2, 3, 1, 2, ...; the dead indices of an axis are zero."""
    array = (np.arange(np.prod(shape)) % 3 + 1).reshape(shape).astype(np.float32)
    np.moveaxis(array, axis, 0)[list(dead)] = 0
    return array


CHAIN = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
    h = Conv <pads = [1,1,1,1]> (x, w, b)
    r = Relu(h)
    y = Conv <pads = [1,1,1,1]> (r, v)}"""


def test_a_zero_filter_with_zero_bias_leaves_the_chain(cut):
    done = cut(
        CHAIN,
        w=ramp(4, 2, 3, 3, dead=(1, 3)),
        b=np.array([1, 0, 2, 0], np.float32),
        v=ramp(2, 4, 3, 3),
    )
    assert done.gone == {
        "w": {0: [1, 3]}, "b": {0: [1, 3]}, "h": {1: [1, 3]}, "r": {1: [1, 3]}, "v": {1: [1, 3]},
    }  # fmt: skip
    assert done.array("w").shape == (2, 2, 3, 3)
    assert sorted(done.changes) == ["v: axis 1 from 4 to 2", "w: axis 0 from 4 to 2"]
    assert done.refusals == []


def test_a_zero_filter_with_a_bias_is_a_constant_that_stays(cut):
    weights = {"w": ramp(4, 2, 3, 3, dead=(1,)), "v": ramp(2, 4, 3, 3)}
    done = cut(CHAIN, b=np.array([1, 7, 2, 3], np.float32), **weights)
    assert done.gone == {}
    assert done.refusals == ["2 constant channels stay: their constant is not zero"]


def test_a_zero_filter_with_a_negative_bias_is_zero_behind_relu(cut):
    weights = {"w": ramp(4, 2, 3, 3, dead=(1,)), "v": ramp(2, 4, 3, 3, dead=(1,), axis=1)}
    done = cut(CHAIN, b=np.array([1, -7, 2, 3], np.float32), **weights)
    assert done.gone["w"] == {0: [1]} and done.gone["v"] == {1: [1]}


def test_a_negative_constant_goes_although_its_reader_has_weights(cut):
    """h = -7 is needed by nobody, because r = 0 goes with it."""
    weights = {"w": ramp(4, 2, 3, 3, dead=(1,)), "v": ramp(2, 4, 3, 3)}
    done = cut(CHAIN, b=np.array([1, -7, 2, 3], np.float32), **weights)
    assert done.gone["h"] == done.gone["r"] == {1: [1]}


def test_a_channel_that_no_weight_reads_goes(cut):
    done = cut(CHAIN, w=ramp(4, 2, 3, 3), b=ramp(4), v=ramp(2, 4, 3, 3, dead=(0, 2), axis=1))
    assert done.gone["w"] == {0: [0, 2]} and done.gone["b"] == {0: [0, 2]}


def test_death_goes_back_through_a_whole_chain(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        a = Conv(x, w1)
        b = Conv(a, w2)
        y = Conv(b, w3)}"""
    w2 = np.zeros((3, 3, 1, 1), np.float32)
    w2[0, 0] = w2[1, 1] = w2[2, 2] = 1
    w3 = ramp(2, 3, 1, 1, dead=(2,), axis=1)
    done = cut(text, w1=ramp(3, 2, 1, 1), w2=w2, w3=w3)
    assert done.gone["w1"] == {0: [2]}
    assert done.gone["w2"] == {0: [2], 1: [2]}


def test_death_goes_forward_through_a_whole_chain(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        a = Conv(x, w1)
        b = Conv(a, w2)
        y = Conv(b, w3)}"""
    w2 = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
    done = cut(text, w1=ramp(3, 2, 1, 1, dead=(1,)), w2=w2, w3=ramp(2, 3, 1, 1))
    assert done.gone["w2"] == {0: [1], 1: [1]} and done.gone["w3"] == {1: [1]}


def test_one_channel_is_kept_when_all_are_dead(cut):
    zero, bias = np.zeros((4, 2, 3, 3), np.float32), np.zeros(4, np.float32)
    done = cut(CHAIN, w=zero, b=bias, v=ramp(2, 4, 3, 3))
    assert done.gone["w"] == {0: [1, 2, 3]}


def test_the_kept_number_is_rounded_up_to_full_blocks(cut):
    weights = {"b": np.zeros(8, np.float32), "v": ramp(2, 8, 3, 3)}
    done = cut(CHAIN, round_to=4, w=ramp(8, 2, 3, 3, dead=(0, 1, 2, 3, 4, 5)), **weights)
    assert done.gone["w"] == {0: [2, 3, 4, 5]}
    assert done.refusals[-1] == "2 dead channels stay to fill blocks of 4"


def test_a_group_smaller_than_a_block_stays_whole(cut):
    weights = {"w": ramp(4, 2, 3, 3, dead=(1,)), "b": np.zeros(4, np.float32)}
    assert cut(CHAIN, round_to=8, v=ramp(2, 4, 3, 3), **weights).gone == {}


def test_graph_inputs_and_outputs_keep_all_their_channels(cut):
    text = "g (float[N,3,4,4] x) => (float[N,3,4,4] y) {y = Conv(x, w)}"
    weights = ramp(3, 3, 1, 1, dead=(1,))
    weights[:, 2] = 0
    done = cut(text, w=weights)
    assert done.gone == {}
    assert done.refusals == ["1 zero channels stay: 'y' is a graph output"]


def test_a_depthwise_channel_goes_with_all_its_outputs(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        h = Conv(x, w)
        d = Conv <group = 3, pads = [1,1,1,1]> (h, dw)
        y = Conv(d, v)}"""
    weights = {"dw": ramp(6, 1, 3, 3), "v": ramp(2, 6, 1, 1)}
    done = cut(text, w=ramp(3, 2, 1, 1, dead=(1,)), **weights)
    assert done.gone["dw"] == {0: [2, 3]} and done.gone["v"] == {1: [2, 3]}
    assert [
        n.attributes["group"].as_int() for n in done.after.graph if "group" in n.attributes
    ] == [2]


def test_a_depthwise_channel_stays_while_one_of_its_outputs_is_read(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        h = Conv(x, w)
        d = Conv <group = 3> (h, dw)
        y = Conv(d, v)}"""
    weights = {"w": ramp(3, 2, 1, 1), "dw": ramp(6, 1, 1, 1)}
    done = cut(text, v=ramp(2, 6, 1, 1, dead=(2, 4, 5), axis=1), **weights)
    assert done.gone["w"] == {0: [2]} and done.gone["dw"] == {0: [4, 5]}


def test_a_depthwise_bias_makes_a_zero_channel_constant(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        h = Conv(x, w)
        d = Conv <group = 3> (h, dw, b)
        y = Conv(d, v)}"""
    weights = {"dw": ramp(3, 1, 1, 1), "b": ramp(3), "v": ramp(2, 3, 1, 1)}
    assert cut(text, w=ramp(3, 2, 1, 1, dead=(1,)), **weights).gone == {}


GROUPED = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
    h = Conv(x, w)
    d = Conv <group = 2> (h, gw)
    y = Conv(d, v)}"""


def test_general_groups_lose_the_same_place_in_every_group(cut):
    weights = {"gw": ramp(4, 3, 1, 1), "v": ramp(2, 4, 1, 1)}
    done = cut(GROUPED, w=ramp(6, 2, 1, 1, dead=(1, 4, 5)), **weights)
    assert done.gone["w"] == {0: [1, 4]} and done.gone["gw"] == {1: [1]}
    assert done.array("gw").shape == (4, 2, 1, 1)


def test_general_groups_lose_the_same_output_in_every_group(cut):
    weights = {"w": ramp(6, 2, 1, 1), "gw": ramp(4, 3, 1, 1)}
    done = cut(GROUPED, v=ramp(2, 4, 1, 1, dead=(0, 2, 3), axis=1), **weights)
    assert done.gone["gw"] == {0: [0, 2]} and done.gone["v"] == {1: [0, 2]}


def test_the_nodes_behind_an_unknown_op_are_needed(cut):
    """What the softmax reads is needed, so what the convolution before it reads is needed too."""
    text = """g (float[N,2,4,4] x) => (float[N,3,4,4] y) {
        h = Conv(x, w)
        s = Conv(h, v)
        y = Softmax <axis = 1> (s)}"""
    done = cut(text, w=ramp(4, 2, 1, 1), v=ramp(3, 4, 1, 1, dead=(1,), axis=1))
    assert done.gone["w"] == {0: [1]} and done.gone["v"] == {1: [1]}


def test_an_unknown_op_pins_what_it_reads(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        h = Conv(x, w)
        s = Softmax <axis = 1> (h)
        y = Conv(s, v)}"""
    done = cut(text, exact=False, w=ramp(4, 2, 1, 1, dead=(1,)), v=ramp(2, 4, 1, 1))
    assert done.gone == {}
    assert done.refusals == [
        "1 zero channels stay: Softmax '' is an op that the channel engine leaves alone"
    ]


def test_weights_that_are_computed_are_left_alone(cut):
    text = """g (float[N,2,4,4] x, float[3,2,1,1] w) => (float[N,2,4,4] y) {
        h = Conv(x, w)
        y = Conv(h, v)}"""
    assert cut(text, v=ramp(2, 3, 1, 1, dead=(1,), axis=1)).gone == {}


def test_a_computed_bias_is_needed(cut):
    text = """g (float[N,2,4,4] x, float[1,2] z) => (float[N,2,4,4] y) {
        a = Gemm(z, c)
        m = Gemm(a, d)
        b = Squeeze(m, zero)
        h = Conv(x, w, b)
        y = Conv(h, v)}"""
    weights = {"c": ramp(2, 4), "d": ramp(4, 3), "w": ramp(3, 2, 1, 1), "v": ramp(2, 3, 1, 1)}
    assert cut(text, zero=np.array([0]), **weights).gone == {}


def test_shared_weights_go_only_where_both_users_agree(cut):
    text = """g (float[N,2,4,4] x, float[N,2,4,4] z) => (float[N,2,4,4] y, float[N,2,4,4] u) {
        h = Conv(x, w)
        y = Conv(h, v1)
        k = Conv(z, w)
        u = Conv(k, v2)}"""
    v1, v2 = ramp(2, 4, 1, 1, dead=(1, 2), axis=1), ramp(2, 4, 1, 1, dead=(2, 3), axis=1)
    done = cut(text, w=ramp(4, 2, 1, 1), v1=v1, v2=v2)
    assert done.gone["w"] == {0: [2]} and done.gone["v1"] == done.gone["v2"] == {1: [2]}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_keep_zero_channels(cut, bad):
    """0 * NaN is NaN, so the zero channel has a say."""
    v = ramp(2, 4, 3, 3)
    v[0, 1, 1, 1] = bad
    done = cut(CHAIN, w=ramp(4, 2, 3, 3, dead=(1,)), b=np.zeros(4, np.float32), v=v)
    assert done.gone == {}
    assert done.refusals == ["1 zero channels stay: Conv '' has weights that are not finite"]


def test_half_precision_stays_half_precision(cut):
    text = CHAIN.replace("float[", "float16[")
    weights = {"w": ramp(4, 2, 3, 3, dead=(1,)), "b": np.zeros(4), "v": ramp(2, 4, 3, 3)}
    done = cut(text, **{name: array.astype(np.float16) for name, array in weights.items()})
    assert done.gone["w"] == {0: [1]} and done.array("w").dtype == np.float16


def test_a_tensor_read_inside_a_subgraph_stays_and_is_needed(cut):
    text = """g (float[N,2,4,4] x, bool t) => (float[N,3,4,4] y) {
        h = Conv(x, w)
        s = Conv(h, v)
        y = If (t) <then_branch = a () => (float[N,3,4,4] p) {p = Relu(s)},
                    else_branch = b () => (float[N,3,4,4] q) {q = Neg(s)}>}"""
    v = ramp(3, 4, 1, 1, dead=(1,), axis=1)
    v[2] = 0
    done = cut(text, w=ramp(4, 2, 1, 1), v=v)
    assert done.gone["w"] == {0: [1]} and done.gone["v"] == {1: [1]}
    assert done.refusals == ["1 zero channels stay: 's' is a tensor read inside a subgraph"]


def test_a_convolution_in_one_dimension_is_cut_too(cut):
    text = """g (float[N,2,5] x) => (float[N,2,3] y) {
        h = Conv(x, w)
        y = Conv(h, v)}"""
    done = cut(text, w=ramp(3, 2, 2, dead=(0,)), v=ramp(2, 3, 2))
    assert done.gone["w"] == {0: [0]}
