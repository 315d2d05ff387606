from __future__ import annotations

import numpy as np

from deploypipe.graph.passes.drop_unused import DropUnused


def test_nodes_and_weights_without_a_reader_go(parse, ops, same):
    text = "g (float[2] x) => (float[2] y) {a = Neg(x)\n b = Mul(a, w)\n y = Relu(x)}"
    weights = {"w": np.ones(2, np.float32), "v": np.ones(5, np.float32)}
    before, after = parse(text, **weights), parse(text, **weights)
    outcome = DropUnused()(after)
    assert ops(after) == ["Relu"] and not after.graph.initializers
    assert outcome.changes == [
        "dropped what no output depends on (nodes: 2, initializers: 2; 28 bytes)"
    ]
    same(before, after)


def test_everything_used_is_left_alone(parse):
    text = "g (float[2] x, float[2] unused) => (float[2] y) {y = Mul(x, w)}"
    model = parse(text, w=np.ones(2, np.float32))
    outcome = DropUnused()(model)
    assert not outcome.modified and not outcome.changes
    assert [value.name for value in model.graph.inputs] == ["x", "unused"]
