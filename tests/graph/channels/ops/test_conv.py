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


def test_the_only_constant_stays_where_the_border_can_be_seen(cut):
    weights = {"w": ramp(4, 2, 3, 3, dead=(1,)), "v": ramp(2, 4, 3, 3)}
    assert cut(CHAIN, b=np.array([1, 7, 2, 3], np.float32), **weights).gone == {}


def test_all_constants_but_one_go_where_the_border_can_be_seen(cut):
    weights = {"w": ramp(5, 2, 3, 3, dead=(1, 2, 4)), "v": ramp(2, 5, 3, 3)}
    done = cut(CHAIN, b=np.array([1, 2, 8, 3, 4], np.float32), **weights)
    assert done.gone["w"] == done.gone["b"] == {0: [1, 4]} and done.gone["v"] == {1: [1, 4]}
    assert done.changes[-1] == "r: 2 constant channels into one of them"
    old = weights["v"]
    new = old[:, 2] + old[:, 1] * (2 / 8) + old[:, 4] * (4 / 8)
    np.testing.assert_array_equal(done.array("v")[:, 1], new)


def test_a_constant_goes_into_the_next_bias_where_no_border_can_be_seen(cut):
    text = CHAIN.replace("Conv <pads = [1,1,1,1]> (r, v)", "Conv(r, v, c)")
    text = text.replace("[N,2,4,4] y", "[N,2,2,2] y")
    weights = {"w": ramp(4, 2, 3, 3, dead=(1,)), "v": ramp(2, 4, 3, 3)}
    done = cut(text, b=np.array([1, 7, 2, 3], np.float32), c=np.float32([5, 6]), **weights)
    assert done.gone["w"] == {0: [1]} and done.gone["v"] == {1: [1]}
    sums = weights["v"][:, 1].reshape(2, -1).sum(1)
    assert done.array("c").tolist() == (np.array([5, 6]) + 7 * sums).tolist()


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
    assert done.refusals == ["1 dead channels stay: 'y' is a graph output"]


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
    done = cut(text, w=ramp(3, 2, 1, 1, dead=(1,)), **weights)
    assert done.gone["w"] == done.gone["dw"] == {0: [1]} and done.gone["v"] == {1: [1]}
    assert done.after.graph[-1].inputs[2].const_value.numpy().tolist() == [4, 4]  # v * b[1]


def test_a_constant_of_a_padded_depthwise_convolution_is_live_behind_it(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        h = Conv(x, w, b)
        d = Conv <group = 4, pads = [1,1,1,1]> (h, dw)
        y = Conv(d, v)}"""
    weights = {"dw": ramp(4, 1, 3, 3), "v": ramp(2, 4, 1, 1), "w": ramp(4, 2, 1, 1, dead=(1, 2))}
    done = cut(text, b=np.array([1, 5, 0, 1], np.float32), **weights)
    assert done.gone["w"] == done.gone["dw"] == {0: [2]}


@pytest.mark.parametrize("shape", [(5,), (5, 4, 3)])
def test_depthwise_convolutions_of_any_rank_are_cut(cut, shape):
    size = ",".join(map(str, shape))
    text = f"""g (float[N,2,{size}] x) => (float[N,2,{size}] y) {{
        h = Conv(x, w)
        d = Conv <group = 3, pads = {[1] * 2 * len(shape)}> (h, dw)
        y = Conv(d, v)}}"""
    one, three = [1] * len(shape), [3] * len(shape)
    weights = {"dw": ramp(9, 1, *three), "v": ramp(2, 9, *one)}
    done = cut(text, ort=True, w=ramp(3, 2, *one, dead=(0,)), **weights)
    assert done.gone["dw"] == {0: [0, 1, 2]}
    assert done.after.graph[1].attributes["group"].as_int() == 2


GROUPED = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
    h = Conv(x, w)
    d = Conv <group = 2> (h, gw)
    y = Conv(d, v)}"""


def test_every_group_loses_as_many_inputs_as_the_one_that_loses_fewest(cut):
    """Group 0 holds one dead input, at its place 0; group 1 two, at its places 1 and 2."""
    weights = {"gw": ramp(4, 3, 1, 1), "v": ramp(2, 4, 1, 1)}
    done = cut(GROUPED, w=ramp(6, 2, 1, 1, dead=(0, 4, 5)), **weights)
    gone = done.gone["w"][0]
    assert gone[0] == 0 and len(gone) == 2 and gone[1] in (4, 5)
    assert done.array("gw").shape == (4, 2, 1, 1)
    np.testing.assert_array_equal(done.array("gw")[:2], weights["gw"][:2, 1:])
    stay = [place for place in range(3) if place != gone[1] - 3]
    np.testing.assert_array_equal(done.array("gw")[2:], weights["gw"][2:, stay])


def test_every_group_loses_as_many_outputs_as_the_one_that_loses_fewest(cut):
    weights = {"w": ramp(6, 2, 1, 1), "gw": ramp(6, 3, 1, 1)}
    done = cut(GROUPED, v=ramp(2, 6, 1, 1, dead=(0, 4, 5), axis=1), **weights)
    gone = done.gone["gw"][0]
    assert gone[0] == 0 and len(gone) == 2 and gone[1] in (4, 5)
    assert done.gone["v"] == {1: gone}


def test_inputs_and_outputs_of_groups_go_at_once(cut):
    weights = {"w": ramp(8, 2, 3, 3, dead=(1, 3, 4)), "gw": ramp(8, 4, 3, 3)}
    text = GROUPED.replace("Conv(x", "Conv <pads = [1,1,1,1]> (x")
    text = text.replace("group = 2", "group = 2, pads = [1,1,1,1]")
    done = cut(text, v=ramp(2, 8, 1, 1, dead=(0, 2, 6), axis=1), **weights)
    assert done.array("gw").shape == (6, 3, 3, 3) and done.array("v").shape == (2, 6, 1, 1)
    assert done.array("w").shape[0] == 6


@pytest.mark.parametrize("dead", [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 1, 2, 6, 7, 8)])
def test_a_group_whose_inputs_are_all_dead_goes_whole(cut, dead):
    text = GROUPED.replace("group = 2", "group = 3")
    weights = {"gw": ramp(6, 3, 1, 1), "v": ramp(2, 6, 1, 1)}
    done = cut(text, w=ramp(9, 2, 1, 1, dead=dead), **weights)
    left = 3 - len(dead) // 3
    assert done.gone["w"] == {0: list(dead)} and done.array("gw").shape == (2 * left, 3, 1, 1)
    assert done.after.graph[1].attributes["group"].as_int() == left


def test_a_whole_group_and_single_channels_of_the_others_go_at_once(cut):
    text = GROUPED.replace("group = 2", "group = 3")
    weights = {"gw": ramp(6, 3, 1, 1), "v": ramp(2, 6, 1, 1)}
    done = cut(text, w=ramp(9, 2, 1, 1, dead=(0, 3, 4, 5, 8)), **weights)
    assert done.gone["w"] == {0: [0, 3, 4, 5, 8]} and done.array("gw").shape == (4, 2, 1, 1)


def test_a_group_that_nothing_reads_goes_whole(cut):
    weights = {"w": ramp(6, 2, 1, 1), "gw": ramp(4, 3, 1, 1)}
    done = cut(GROUPED, v=ramp(2, 4, 1, 1, dead=(2, 3), axis=1), **weights)
    assert done.gone["gw"] == {0: [2, 3]} and done.gone["w"] == {0: [3, 4, 5]}
    assert done.after.graph[1].attributes["group"].as_int() == 1


def test_a_group_of_constants_alone_goes_into_the_next_bias(cut):
    text = GROUPED.replace("Conv(x, w)", "Conv(x, w, b)")
    weights = {"gw": ramp(4, 3, 1, 1), "v": ramp(2, 4, 1, 1), "b": ramp(6)}
    done = cut(text, w=ramp(6, 2, 1, 1, dead=(3, 4, 5)), **weights)
    assert done.gone["w"] == {0: [3, 4, 5]} and done.gone["gw"] == {0: [2, 3]}


def test_constants_are_merged_within_their_group(cut):
    """Each group keeps one constant of its own, since no weight looks at another group's."""
    text = GROUPED.replace("Conv(x, w)", "Conv(x, w, b)")
    text = text.replace("group = 2", "group = 2, pads = [1,1,1,1]")
    weights = {"gw": ramp(4, 4, 3, 3), "v": ramp(2, 4, 1, 1)}
    b = np.array([0, 4, 2, 0, 0, 8, 8, 0], np.float32)
    done = cut(text, w=ramp(8, 2, 1, 1, dead=(1, 2, 5, 6)), b=b, **weights)
    gone = done.gone["w"][0]
    assert len(gone) == 2 and gone[0] == 2 and gone[1] in (5, 6)
    assert "h: 2 constant channels into one of them" in done.changes


def test_groups_with_a_bias_take_constants_into_it(cut):
    text = GROUPED.replace("Conv(x, w)", "Conv(x, w, b)").replace("(h, gw)", "(h, gw, gb)")
    weights = {"gw": ramp(4, 3, 1, 1), "gb": ramp(4), "v": ramp(2, 4, 1, 1)}
    b = np.array([0, 4, 0, 0, 2, 0], np.float32)
    done = cut(text, w=ramp(6, 2, 1, 1, dead=(1, 4)), b=b, **weights)
    assert done.gone["w"] == {0: [1, 4]} and done.array("gw").shape == (4, 2, 1, 1)


def test_as_many_groups_as_inputs_with_several_outputs_each_are_depthwise(cut):
    """Input 1 goes with both of its outputs, input 0 stays with one of them unread."""
    text = GROUPED.replace("group = 2", "group = 3, dilations = [2,2], pads = [2,2,2,2]")
    weights = {"w": ramp(3, 2, 1, 1, dead=(1,)), "gw": ramp(6, 1, 3, 3)}
    done = cut(text, v=ramp(2, 6, 1, 1, dead=(0,), axis=1), **weights)
    assert done.gone["gw"] == {0: [2, 3]}


@pytest.mark.parametrize("pad", ["SAME_UPPER", "SAME_LOWER"])
def test_padding_to_the_same_size_is_padding(cut, pad):
    """One constant stays; folded into the bias it would be wrong at the border."""
    text = CHAIN.replace("<pads = [1,1,1,1]> (r", f'<auto_pad = "{pad}"> (r')
    weights = {"w": ramp(4, 2, 3, 3, dead=(1, 2)), "v": ramp(2, 4, 3, 3)}
    done = cut(text, b=np.array([1, 4, 8, 3], np.float32), **weights)
    assert done.gone["w"] == {0: [1]} and len(done.after.graph[-1].inputs) == 2


def test_no_padding_by_name_is_no_padding(cut):
    text = CHAIN.replace("<pads = [1,1,1,1]> (r", '<auto_pad = "VALID"> (r')
    text = text.replace("4,4] y", "2,2] y")
    weights = {"w": ramp(4, 2, 3, 3, dead=(1, 2)), "v": ramp(2, 4, 3, 3)}
    done = cut(text, b=np.array([1, 4, 8, 3], np.float32), **weights)
    assert done.gone["w"] == {0: [1, 2]} and len(done.after.graph[-1].inputs) == 3


@pytest.mark.parametrize(
    "attributes",
    [
        "strides = [2,2], pads = [1,1,1,1]",
        "dilations = [2,2], pads = [2,0,1,3]",
        "pads = [0,0,0,1]",
    ],
)
def test_constants_are_merged_under_every_stride_dilation_and_padding(cut, attributes):
    text = CHAIN.replace("<pads = [1,1,1,1]> (r", f"<{attributes}> (r").replace("4,4] y", "H,W] y")
    weights = {"w": ramp(4, 2, 3, 3, dead=(1, 2)), "v": ramp(2, 4, 3, 3)}
    done = cut(text, b=np.array([1, 4, 8, 3], np.float32), **weights)
    assert done.gone["w"] == {0: [1]}


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
    assert done.refusals == ["1 dead channels stay: Softmax '' reads the axis as a whole"]


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


def test_each_user_of_shared_weights_keeps_what_it_needs(cut):
    text = """g (float[N,2,4,4] x, float[N,2,4,4] z) => (float[N,2,4,4] y, float[N,2,4,4] u) {
        h = Conv(x, w)
        y = Conv(h, v1)
        k = Conv(z, w)
        u = Conv(k, v2)}"""
    v1, v2 = ramp(2, 4, 1, 1, dead=(1, 2), axis=1), ramp(2, 4, 1, 1, dead=(2, 3), axis=1)
    done = cut(text, w=ramp(4, 2, 1, 1), v1=v1, v2=v2)
    assert done.gone["v1"] == {1: [1, 2]} and done.gone["v2"] == {1: [2, 3]}
    assert done.gone["w"] == {0: [1, 2]} and done.gone["w.copy"] == {0: [2, 3]}
    assert done.array("w").shape == done.array("w.copy").shape == (2, 2, 1, 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_keep_zero_channels(cut, bad):
    """0 * NaN is NaN, so the zero channel has a say."""
    v = ramp(2, 4, 3, 3)
    v[0, 1, 1, 1] = bad
    done = cut(CHAIN, w=ramp(4, 2, 3, 3, dead=(1,)), b=np.zeros(4, np.float32), v=v)
    assert done.gone == {}
    assert done.refusals == ["1 dead channels stay: Conv '' has weights that are not finite"]


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
    assert done.refusals == ["1 dead channels stay: 's' is a tensor read inside a subgraph"]


def test_a_convolution_in_one_dimension_is_cut_too(cut):
    text = """g (float[N,2,5] x) => (float[N,2,3] y) {
        h = Conv(x, w)
        y = Conv(h, v)}"""
    done = cut(text, w=ramp(3, 2, 2, dead=(0,)), v=ramp(2, 3, 2))
    assert done.gone["w"] == {0: [0]}


def test_a_padded_convolution_in_three_dimensions_merges_constants(cut):
    text = """g (float[N,2,3,4,3] x) => (float[N,2,3,4,3] y) {
        h = Conv(x, w, b)
        y = Conv <pads = [1,1,1,1,1,1]> (h, v)}"""
    weights = {"w": ramp(4, 2, 1, 1, 1, dead=(1, 2)), "v": ramp(2, 4, 3, 3, 3)}
    done = cut(text, ort=True, b=np.array([1, 8, 2, 0], np.float32), **weights)
    assert done.gone["w"] == {0: [2]}
