from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.files import to_bytes
from deploypipe.graph.passes.shorten_names import ShortenNames

TEXT = """g (float[N,2] image) => (float[N,2] logits) {
    a_long_name = Mul(image, layer1_weight)
    b_long_name = Relu(a_long_name)
    logits = Add(b_long_name, layer1_bias)}"""
WEIGHTS = {"layer1_weight": np.ones(2, np.float32), "layer1_bias": np.ones(2, np.float32)}


def test_the_file_shrinks_and_answers_alike(parse, same):
    before, after = parse(TEXT, **WEIGHTS), parse(TEXT, **WEIGHTS)
    outcome = ShortenNames()(after)
    assert outcome.modified and len(to_bytes(after)) < len(to_bytes(before)) - 20
    assert list(after.graph.initializers) == ["0", "1"]
    same(before, after)


def test_a_second_run_changes_nothing(parse):
    model = parse(TEXT, **WEIGHTS)
    ShortenNames()(model)
    assert not ShortenNames()(model).modified


def test_weights_keep_their_names_if_asked(parse):
    model = parse(TEXT, **WEIGHTS)
    ShortenNames(weights=False)(model)
    assert set(model.graph.initializers) == set(WEIGHTS)


def test_tensors_keep_their_names_and_nodes_take_them(parse):
    model = parse(TEXT, **WEIGHTS)
    ShortenNames()(model)
    assert [node.outputs[0].name for node in model.graph] == [
        "a_long_name",
        "b_long_name",
        "logits",
    ]
    assert [node.name for node in model.graph] == ["a_long_name", "b_long_name", "logits"]


def test_a_short_name_of_a_tensor_is_not_taken_twice(parse, same):
    text = "g (float[N,2] i0) => (float[N,2] i1) {a = Mul(i0, w)\n b = Relu(a)\n i1 = Mul(b, v)}"
    weights = {"w": np.array([1, 2], np.float32), "v": np.array([3, 5], np.float32)}
    before, after = parse(text, **weights), parse(text, **weights)
    for model in (before, after):
        model.graph.inputs[0].name, model.graph.outputs[0].name = "1", "0"
        model.graph[1].outputs[0].name = "2"
    ShortenNames()(after)
    assert list(after.graph.initializers) == ["3", "4"]
    same(before, after)


@pytest.mark.parametrize("condition", [True, False])
def test_subgraphs_are_renamed_with_the_rest(parse, evaluate, condition):
    text = """g (bool c, float[2] x) => (float[2] y) {
        outer = Neg(x)
        y = If (c) <
            then_branch = yes () => (float[2] inner) {inner = Mul(outer, weight)},
            else_branch = no () => (float[2] other) {
                middle = Abs(outer)
                other = Neg(middle)}
        >}"""
    weight = np.array([3, 4], np.float32)
    before, after = parse(text, weight=weight), parse(text, weight=weight)
    assert ShortenNames()(after).modified and list(after.graph.initializers) == ["0"]
    feeds = {"c": np.array(condition), "x": np.array([1, -2], np.float32)}
    assert evaluate(before, feeds)["y"].tolist() == evaluate(after, feeds)["y"].tolist()
