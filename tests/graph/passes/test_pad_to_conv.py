from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.passes.pad_to_conv import PadToConv

WEIGHT = np.random.default_rng(0).normal(size=(3, 2, 3, 3)).astype(np.float32)
AROUND = np.array([0, 0, 1, 2, 0, 0, 3, 0])
TEXT = """g (float[N,2,5,6] x) => (float[N,3,H,W] y) {
    p = Pad (x, amounts)
    y = Conv (p, w)}"""


def test_zeros_around_the_picture_become_the_convolutions_padding(parse, ops, same):
    before, after = (parse(TEXT, w=WEIGHT, amounts=AROUND) for _ in range(2))
    assert PadToConv()(after).modified
    assert ops(after) == ["Conv"]
    assert list(after.graph[0].attributes.get_ints("pads", ())) == [1, 2, 3, 0]
    same(before, after)


def test_they_add_to_what_the_convolution_pads_itself(parse, ops, same):
    text = TEXT.replace("Conv (p", "Conv <pads = [1, 0, 0, 1], strides = [2, 1]> (p")
    before, after = (parse(text, w=WEIGHT, amounts=AROUND) for _ in range(2))
    assert PadToConv()(after).modified
    same(before, after)


def test_all_convolutions_that_read_it_take_it_in(parse, ops, same):
    text = """g (float[N,2,5,6] x) => (float[N,3,H,W] y, float[N,3,I,J] z) {
        p = Pad (x, amounts)
        y = Conv (p, w)
        z = Conv <dilations = [2, 2]> (p, w)}"""
    before, after = (parse(text, w=WEIGHT, amounts=AROUND) for _ in range(2))
    assert PadToConv()(after).modified and ops(after) == ["Conv", "Conv"]
    same(before, after)


def test_pads_of_some_axes_are_spread_over_all(parse, ops, same):
    text = """g (float[N,2,5,6] x) => (float[N,3,H,W] y) {
        p = Pad (x, amounts, , axes)
        y = Conv (p, w)}"""
    given = {"w": WEIGHT, "amounts": np.array([2, 1, 0, 3]), "axes": np.array([-1, 2])}
    before, after = (parse(text, **given) for _ in range(2))
    assert PadToConv()(after).modified
    assert list(after.graph[0].attributes.get_ints("pads", ())) == [1, 2, 3, 0]
    same(before, after)


@pytest.mark.parametrize(
    ("text", "amounts", "why"),
    [
        (TEXT.replace("Pad (", 'Pad <mode = "reflect"> ('), AROUND, "repeats the picture"),
        (TEXT.replace("amounts)", "amounts, one)"), AROUND, "not zero"),
        (TEXT, np.array([0, 0, 1, -1, 0, 0, 1, 0]), "takes away"),
        (TEXT.replace("2,5", "1,5"), np.array([0, 1, 1, 0, 0, 0, 1, 0]), "only around"),
        (TEXT.replace("(p, w)", "(p, p)").replace("N,2", "2,2"), AROUND * 0, "as a weight"),
        (TEXT.replace("Conv (", 'Conv <auto_pad = "SAME_UPPER"> ('), AROUND, "its own padding"),
    ],
)
def test_other_pads_stay_with_the_reason(parse, ops, text, amounts, why):
    model = parse(text, w=WEIGHT, amounts=amounts, one=np.float32(1))
    outcome = PadToConv()(model)
    assert not outcome.modified and ops(model) == ["Pad", "Conv"]
    assert why in outcome.refusals[0]


def test_a_pad_that_others_read_as_well_stays_without_a_word(parse, ops):
    text = """g (float[N,2,5,6] x) => (float[N,3,H,W] y, float[N,2,I,J] z) {
        p = Pad (x, amounts)
        z = Relu (p)
        y = Conv (p, w)}"""
    model = parse(text, w=WEIGHT, amounts=AROUND)
    assert not PadToConv()(model).modified
