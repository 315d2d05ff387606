from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.passes.drop_identity import DropIdentity

ints = np.array

DROPPED = {
    "Identity": ("Identity(h)", {}),
    "Dropout in inference": ("Dropout(h, r)", {"r": np.float32(0.5)}),
    "Cast to the same type": ("Cast <to = 1> (h)", {}),
    "Concat of one": ("Concat <axis = 0> (h)", {}),
    "Reshape to the same sizes": ("Reshape(h, s)", {"s": ints([0, 2, 3])}),
    "Reshape that infers the batch": ("Reshape(h, s)", {"s": ints([-1, 2, 3])}),
    "Transpose in order": ("Transpose <perm = [0,1,2]> (h)", {}),
    "Pad by nothing": ("Pad(h, p)", {"p": ints([0] * 6)}),
    "Slice to the end": ("Slice(h, s, e, a)", {"s": ints([0]), "e": ints([2**62]), "a": ints([0])}),
    "Slice past the size": ("Slice(h, s, e, a)", {"s": ints([0]), "e": ints([3]), "a": ints([-1])}),
    "Expand to the same": ("Expand(h, s)", {"s": ints([1, 2, 3])}),
    "Sum with zeros": ("Add(h, z)", {"z": np.zeros((2, 1), np.float32)}),
    "Sum of zeros": ("Add(z, h)", {"z": np.zeros((1, 2, 3), np.float32)}),
}

KEPT = {
    "Cast to another type": ("float16[N,2,3]", "Cast <to = 10> (h)", {}),
    "Reshape to other sizes": ("float[N,3,2]", "Reshape(h, s)", {"s": ints([0, 3, 2])}),
    "Reshape of the batch": ("float[M,2,3]", "Reshape(h, s)", {"s": ints([3, 2, -1])}),
    "Transpose": ("float[N,3,2]", "Transpose <perm = [0,2,1]> (h)", {}),
    "Transpose by default": ("float[3,2,N]", "Transpose(h)", {}),
    "Pad": ("float[N,2,4]", "Pad(h, p)", {"p": ints([0, 0, 0, 0, 0, 1])}),
    "Slice from the middle": (
        "float[N,2,2]", "Slice(h, s, e, a)", {"s": ints([1]), "e": ints([9]), "a": ints([2])},
    ),
    "Slice before the end": (
        "float[N,2,2]", "Slice(h, s, e, a)", {"s": ints([0]), "e": ints([2]), "a": ints([2])},
    ),
    "Slice in steps": (
        "float[N,2,2]", "Slice(h, s, e, a, t)",
        {"s": ints([0]), "e": ints([3]), "a": ints([2]), "t": ints([2])},
    ),
    "Expand": ("float[N,2,3]", "Expand(h, s)", {"s": ints([4, 2, 3])}),
    "Sum with a one": ("float[N,2,3]", "Add(h, z)", {"z": np.eye(2, 3, dtype=np.float32)}),
    "Sum with more zeros": (
        "float[4,2,3]", "Add(h, z)", {"z": np.zeros((4, 2, 3), np.float32)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DROPPED)
def test_dropped(case, parse, ops, same):
    node, weights = DROPPED[case]
    text = f"g (float[N,2,3] x) => (float[N,2,3] y) {{h = Neg(x)\n k = {node}\n y = Relu(k)}}"
    before, after = parse(text, **weights), parse(text, **weights)
    outcome = DropIdentity()(after)
    assert ops(after) == ["Neg", "Relu"] and len(outcome.changes) == 1
    same(before, after)


@pytest.mark.parametrize("case", KEPT)
def test_kept(case, parse, ops):
    made, node, weights = KEPT[case]
    model = parse(f"g (float[N,2,3] x) => ({made} y) {{h = Neg(x)\n y = {node}}}", **weights)
    before = ops(model)
    assert not DropIdentity()(model).modified and ops(model) == before


def test_the_output_keeps_its_name(parse, ops, same):
    text = "g (float[N,2] x) => (float[N,2] y) {h = Relu(x)\n y = Identity(h)}"
    before, after = parse(text), parse(text)
    assert DropIdentity()(after).modified and ops(after) == ["Relu"]
    same(before, after)


@pytest.mark.parametrize(
    "text",
    [
        "g (float[N,2] x) => (float[N,2] y) {y = Identity(x)}",
        "g (float[N,2] x) => (float[N,2] y, float[N,2] h) {h = Relu(x)\n y = Identity(h)}",
    ],
)
def test_a_node_between_two_names_of_the_interface_stays(parse, text):
    model = parse(text)
    before = len(model.graph)
    outcome = DropIdentity()(model)
    assert not outcome.modified and len(model.graph) == before
    assert "separates" in outcome.refusals[0]


def test_a_constant_output_stays(parse):
    model = parse("g (float[2] x) => (float[2] y) {y = Identity(w)}", w=np.ones(2, np.float32))
    assert not DropIdentity()(model).modified


def test_a_dropout_that_trains_or_whose_mask_is_read_stays(parse, ops):
    text = "g (float[2] x) => (float[2] y, bool[2] m) {k, m = Dropout(x)\n y = Relu(k)}"
    outcome = DropIdentity()(parse(text))
    assert "second output is used" in outcome.refusals[0]
    model = parse(
        "g (float[2] x) => (float[2] y) {k = Dropout(x, r, t)\n y = Relu(k)}",
        r=np.float32(0.5),
        t=np.array(True),
    )
    assert not DropIdentity()(model).modified and ops(model) == ["Dropout", "Relu"]


def test_a_chain_collapses(parse, ops):
    text = "g (float[2] x) => (float[2] y) {a = Identity(x)\n b = Identity(a)\n y = Relu(b)}"
    model = parse(text)
    DropIdentity()(model)
    assert ops(model) == ["Relu"] and model.graph[0].inputs[0].name == "x"


def test_it_works_without_noted_types(parse, ops):
    model = parse("g (float[2] x) => (float[2] y) {h = Neg(x)\n k = Cast <to=1> (h)\n y = Relu(k)}")
    for node in model.graph:
        node.outputs[0].type = node.outputs[0].type if node.outputs[0].is_graph_output() else None
    DropIdentity()(model)
    assert ops(model) == ["Neg", "Relu"]


def test_the_second_of_two_relus_is_dropped(parse, ops, same):
    text = "g (float[N,2] x) => (float[N,2] y) {h = Relu(x)\n k = Relu(h)\n y = Neg(k)}"
    before, after = parse(text), parse(text)
    assert DropIdentity()(after).modified
    assert ops(after) == ["Relu", "Neg"]
    same(before, after)
