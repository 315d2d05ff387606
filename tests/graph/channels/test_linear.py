from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.graph.channels.ops.conv import Conv
from deploypipe.graph.channels.ops.gemm import Gemm
from deploypipe.graph.channels.rule import Absorb, Constants, Kept, Needs, Values

CONV = "g (float[N,4,5,5] x) => (float[N,2,A,B] y) {{y = Conv <{attributes}> (x, w{bias})}}"


@pytest.fixture
def rule(parse, flow):
    def build(text: str, **weights: np.ndarray):
        graph = parse(text, **weights).graph
        found = flow(ir.Model(graph, ir_version=10))
        return found.rules[next(iter(graph))]

    return build


def ramp(*shape: int) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 5 + 1).reshape(shape).astype(np.float32)


def known_of(rule, *numbers: float) -> Values:
    known = Values()
    known[rule.in_axis] = np.array(numbers)
    return known


def output(rule, known: Values) -> list[float]:
    rule.values(known)
    return known[rule.out_axis].tolist()


def test_outputs_of_constants_alone_are_constants_where_no_border_is_seen(rule):
    w = ramp(2, 4, 3, 3)
    w[1, 2:] = 0
    plain = rule(
        CONV.format(attributes="group = 1", bias=", b"), w=w, b=np.array([1, 7], np.float32)
    )
    assert isinstance(plain, Conv) and plain.borderless
    found = output(plain, known_of(plain, 2, -3, np.nan, np.nan))
    assert np.isnan(found[0]) and found[1] == 7 + 2 * w[1, 0].sum() - 3 * w[1, 1].sum()
    padded = rule(CONV.format(attributes="pads = [0,0,0,1]", bias=", b"), w=w,
                  b=np.array([1, 7], np.float32))  # fmt: skip
    assert np.isnan(output(padded, known_of(padded, 2, -3, np.nan, np.nan))).all()
    assert output(padded, known_of(padded, 0, 0, np.nan, np.nan))[1] == 7


def test_inputs_are_needed_by_needed_outputs_with_weights(rule):
    w = ramp(2, 4, 1, 1)
    w[0, 1] = w[1, [2, 3]] = 0
    plain = rule(CONV.format(attributes="group = 1", bias=""), w=w)
    needs = Needs()
    needs[plain.out_axis] = np.array([True, False])
    plain.demand(needs, Values())
    assert needs[plain.in_axis].tolist() == [True, False, True, True]
    needs = Needs()
    needs[plain.out_axis] = np.array([False, True])
    plain.demand(needs, Values())
    assert needs[plain.in_axis].tolist() == [True, True, False, False]


def test_groups_see_their_own_inputs(rule):
    w = ramp(2, 2, 1, 1)
    w[1, 0] = 0
    grouped = rule(CONV.format(attributes="group = 2", bias=""), w=w)
    (sink,) = grouped.sinks()
    assert sink.reads.tolist() == [True, True, False, True] and sink.pool.tolist() == [0, 0, 1, 1]
    needs = Needs()
    needs[grouped.out_axis] = np.array([False, True])
    grouped.demand(needs, Values())
    assert needs[grouped.in_axis].tolist() == [False, False, False, True]
    found = output(grouped, known_of(grouped, 1, 1, np.nan, 2))
    assert found == [w[0].sum(), 2 * w[1, 1, 0, 0]]


@pytest.mark.parametrize(
    ("attributes", "bias", "absorb"),
    [
        ("group = 1", ", b", Absorb.FOLD),
        ("group = 1", "", Absorb.FOLD),
        ("pads = [1,1,1,1]", ", b", Absorb.MERGE),
        ("pads = [0,0,0,1]", "", Absorb.MERGE),
        ('auto_pad = "SAME_UPPER"', "", Absorb.MERGE),
        ('auto_pad = "VALID"', "", Absorb.FOLD),
    ],
)
def test_the_bias_takes_constants_where_no_border_is_seen(rule, attributes, bias, absorb):
    more = {"b": np.ones(2, np.float32)} if bias else {}
    made = rule(CONV.format(attributes=attributes, bias=bias), w=ramp(2, 4, 3, 3), **more)
    assert [sink.absorb for sink in made.sinks()] == [absorb]


def test_a_computed_bias_takes_nothing(rule):
    text = CONV.format(attributes="group = 1", bias=", b").replace("5,5] x", "5,5] x, float[2] b")
    assert [sink.absorb for sink in rule(text, w=ramp(2, 4, 1, 1)).sinks()] == [Absorb.MERGE]


def constants(index: list[int], values: list[float], into: list[int], others: list[float]):
    ratio = np.array(values) / np.where(np.array(into) < 0, np.inf, others)
    return Constants(np.array(index), np.array(values), np.array(into), ratio)


def test_merging_adds_the_share_of_the_weights(rule):
    w = ramp(2, 4, 3, 3)
    padded = rule(CONV.format(attributes="pads = [1,1,1,1]", bias=""), w=w)
    padded.compensate(padded.in_axis, constants([0, 3], [2, -1], [1, 1], [4, 4]), Kept({}))
    new = padded.weights.const_value.numpy()
    np.testing.assert_array_equal(new[:, 1], w[:, 1] + w[:, 0] / 2 - w[:, 3] / 4)
    np.testing.assert_array_equal(new[:, [0, 2, 3]], w[:, [0, 2, 3]])


def test_folding_and_merging_at_once(rule):
    w, b = ramp(2, 4, 1, 1), np.array([1, 2], np.float32)
    plain = rule(CONV.format(attributes="group = 1", bias=", b"), w=w, b=b)
    plain.compensate(plain.in_axis, constants([0, 2], [3, 2], [-1, 1], [0, 1]), Kept({}))
    np.testing.assert_array_equal(plain.bias.const_value.numpy(), b + 3 * w[:, 0, 0, 0])
    np.testing.assert_array_equal(plain.weights.const_value.numpy()[:, 1], w[:, 1] + 2 * w[:, 2])


def test_half_precision_is_merged_in_higher_precision(rule):
    text = CONV.format(attributes="pads = [1,1,1,1]", bias="").replace("float[", "float16[")
    w = np.zeros((2, 4, 3, 3), np.float16)
    w[:, 0], w[:, 1], w[:, 2] = 1, 2**-11, 2**-11
    made = rule(text, w=w)
    made.compensate(made.in_axis, constants([1, 2], [1, 1], [0, 0], [1, 1]), Kept({}))
    new = made.weights.const_value.numpy()
    assert new.dtype == np.float16 and (new[:, 0] == np.float16(1 + 2**-10)).all()


def test_nothing_is_added_where_nothing_is_left_of_it(rule):
    w = ramp(2, 4, 1, 1)
    w[0, 1] = 0
    plain = rule(CONV.format(attributes="group = 1", bias=""), w=w)
    gone = Kept({plain.out_axis: np.array([1])})
    plain.compensate(plain.in_axis, constants([1], [3], [-1], [0]), gone)
    assert plain.bias is None and len(plain.node.inputs) == 2


def test_a_new_bias_has_the_outputs_that_are_left(rule):
    plain = rule(CONV.format(attributes="group = 1", bias=""), w=ramp(2, 4, 1, 1))
    gone = Kept({plain.out_axis: np.array([1])})
    plain.compensate(plain.in_axis, constants([1], [3], [-1], [0]), gone)
    assert plain.bias.const_value.numpy().tolist() == [6]


@pytest.mark.parametrize("turned", [0, 1])
def test_both_ways_round_a_matrix_is_the_same(rule, turned):
    text = f"g (float[N,3] x) => (float[N,2] y) {{y = Gemm <transB = {turned}> (x, w)}}"
    w = ramp(2, 3)
    made = rule(text, w=w if turned else w.T.copy())
    assert isinstance(made, Gemm)
    found = output(made, known_of(made, 1, 2, 3))
    assert found == (w @ [1, 2, 3]).tolist()


def test_the_number_of_channels_must_be_known(parse, flow):
    text = "g (float[N,C,5,5] x) => (float[N,2,A,B] y) {y = Conv(x, w)}"
    pins = flow(parse(text, w=ramp(2, 4, 1, 1))).cells.pins
    assert any("an unknown number of channels" in why for why in pins.values())
