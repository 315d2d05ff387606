from __future__ import annotations

import numpy as np

from deploypipe.graph.channels.sharing import part, unite
from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels

TWO = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
    a = Conv(x, w)
    b = Conv(x, w)
    s = Concat <axis = 1> (a, b)
    y = Conv(s, v)}"""


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def test_every_reader_gets_a_copy_and_no_memory_is_taken(parse):
    graph = parse(TWO, w=ones(3, 2, 1, 1), v=ones(2, 6, 1, 1)).graph
    copies = part(graph)
    first, second = graph[0].inputs[1], graph[1].inputs[1]
    assert {value.name: [c.name for c in others] for value, others in copies.items()} == {
        "w": ["w.copy"]
    }
    assert first is not second and first.const_value is second.const_value
    assert list(graph.initializers) == ["w", "v", "w.copy"]


def test_a_reader_that_takes_it_twice_gets_two(parse):
    graph = parse(
        "g (float[N,3] x) => (float[N,3] y) {a = Gemm(x, w, c)\nb = Mul(c, c)\ny = Mul(a, b)}",
        w=ones(3, 3), c=ones(3),
    ).graph  # fmt: skip
    assert len(part(graph)[graph.initializers["c"]]) == 2


def test_copies_that_stayed_alike_are_one_again(parse):
    graph = parse(TWO, w=ones(3, 2, 1, 1), v=ones(2, 6, 1, 1)).graph
    unite(graph, part(graph))
    assert graph[0].inputs[1] is graph[1].inputs[1] and list(graph.initializers) == ["w", "v"]


def test_names_that_are_taken_are_not_given(parse):
    text = TWO.replace("(s, v)", "(s, v, w.copy)").replace("w.copy", "wc")
    model = parse(text, w=ones(3, 2, 1, 1), v=ones(2, 6, 1, 1), wc=ones(2))
    taken = model.graph.initializers.pop("wc")
    taken.name = "w.copy"
    model.graph.initializers["w.copy"] = taken
    assert [c.name for others in part(model.graph).values() for c in others] == ["w.copy1"]


def test_scalars_outputs_and_defaults_of_inputs_are_not_copied(parse):
    text = """g (float[N,3] x, float[3] d) => (float[N,3] y, float[3] o) {
        a = Mul(x, s)
        b = Mul(a, s)
        c = Mul(b, d)
        e = Add(c, d)
        f = Add(e, o)
        y = Mul(f, o)}"""
    model = parse(text, s=np.float32(2), d=ones(3), o=ones(3))
    assert not part(model.graph)


def test_a_subgraph_keeps_the_first(parse):
    text = """g (float[N,2,4,4] x, bool t) => (float[N,2,4,4] y) {
        a = Conv(x, w)
        r = Relu(a)
        b = Conv(r, v)
        y = If (t) <then_branch = p () => (float[N,2,4,4] c) {c = Conv(b, k)},
                    else_branch = q () => (float[N,2,4,4] d) {
                        e = Conv(b, w)
                        d = Conv(e, v)}>}"""
    v = ones(2, 3, 1, 1)
    v[:, 1] = 0
    model = parse(text, w=ones(3, 2, 1, 1), v=v, k=ones(2, 2, 1, 1))
    part(model.graph)
    conv, then = model.graph[0], model.graph[3].attributes["else_branch"].as_graph()
    assert (conv.inputs[1].name, then[0].inputs[1].name) == ("w.copy", "w")


def test_copies_that_would_make_the_model_larger_are_not_made(parse):
    """Two readers lose other channels, so that a copy costs more than both cuts save."""
    v = ones(2, 6, 1, 1)
    v[:, [0, 4]] = 0
    wide = np.arange(240, dtype=np.float32).reshape(3, 80, 1, 1)
    model = parse(TWO.replace("float[N,2,4,4] x", "float[N,80,4,4] x"), w=wide, v=v)
    outcome = DropDeadChannels(prove=False)(model)
    assert not outcome.modified and list(model.graph.initializers) == ["w", "v"]


def test_readers_that_lose_different_channels_keep_a_copy_each(cut):
    v = ones(2, 6, 1, 1)
    v[:, [0, 4]] = 0
    done = cut(TWO, w=np.arange(6, dtype=np.float32).reshape(3, 2, 1, 1), v=v)
    assert done.gone["w"] == {0: [0]} and done.gone["w.copy"] == {0: [1]}
    assert done.array("w")[:, 0, 0, 0].tolist() == [2, 4]
    assert done.array("w.copy")[:, 0, 0, 0].tolist() == [0, 4]


def test_readers_that_lose_the_same_share_it_again(cut):
    v = ones(2, 6, 1, 1)
    v[:, [1, 4]] = 0
    done = cut(TWO, w=np.arange(6, dtype=np.float32).reshape(3, 2, 1, 1), v=v)
    assert list(done.after.graph.initializers) == ["w", "v"]
    assert done.array("w").shape == (2, 2, 1, 1)


def test_a_bias_that_two_share_takes_a_constant_for_one_of_them(cut):
    text = """g (float[N,2,4,4] x) => (float[N,3,4,4] y) {
        a = Conv(x, w, b)
        h = Conv(a, v, b)
        y = Conv(h, u, b)}"""
    w = ones(3, 2, 1, 1)
    w[1] = 0
    b = np.array([1, 2, 3], np.float32)
    v = np.arange(9, dtype=np.float32).reshape(3, 3, 1, 1)
    done = cut(text, w=w, b=b, v=v, u=ones(3, 3, 1, 1))
    biases = [node.inputs[2].const_value.numpy().tolist() for node in done.after.graph]
    assert biases == [[1, 3], [1 + 2 * 1, 2 + 2 * 4, 3 + 2 * 7], [1, 2, 3]]
