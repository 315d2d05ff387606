from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.graph.channels.dataflow import Dataflow
from deploypipe.graph.shapes import infer_shapes

TEXT = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
    h = Conv(x, w, b)
    r = Relu(h)
    y = Conv(r, v)}"""


@pytest.fixture
def known(parse, flow):
    """Channel 0 is live, 1 the constant -2, 2 zero, 3 live and read by nobody."""
    w = np.ones((4, 2, 1, 1), np.float32)
    w[1:3] = 0
    v = np.ones((2, 4, 1, 1), np.float32)
    v[:, 3] = 0
    return flow(parse(TEXT, w=w, b=np.array([1, -2, 0, 1], np.float32), v=v))


def value(flow, name: str) -> ir.Value:
    return next(v for v, _ in flow.cells.first if v.name == name)


def test_constants_are_followed_forward(known):
    np.testing.assert_array_equal(known.values.of(value(known, "h"), 1), [np.nan, -2, 0, np.nan])
    np.testing.assert_array_equal(known.values.of(value(known, "r"), 1), [np.nan, 0, 0, np.nan])


def test_demand_is_followed_backward(known):
    none = np.zeros(known.cells.count, bool)
    needed = known.needed(none, none)
    assert needed[known.cells.ids((value(known, "r"), 1))].tolist() == [True, True, True, False]


def test_what_is_held_is_needed_in_any_case(known):
    none, held = (np.zeros(known.cells.count, bool) for _ in range(2))
    held[known.cells.ids((value(known, "r"), 1))[3]] = True
    needed = known.needed(none, held)
    assert needed[known.cells.ids((value(known, "h"), 1))].tolist()[3]


def test_a_constant_channel_that_goes_needs_nothing(known):
    gone = np.ones(known.cells.count, bool)
    needed = known.needed(gone, np.zeros(known.cells.count, bool))
    assert needed[known.cells.ids((value(known, "h"), 1))].tolist() == [True, False, False, False]


def test_borders_and_axes_read_as_a_whole_are_pinned_with_a_reason(known):
    pins = {(v.name, axis): reason for (v, axis), reason in known.cells.pins.items()}
    assert pins["y", 1] == "'y' is a graph output"
    assert pins["x", 1] == "'x' is a graph input"
    assert pins["h", 2] == "Conv '' reads the axis as a whole"
    assert ("h", 1) not in pins


def test_a_channel_runs_through_weights_bias_and_activations(known):
    cells = known.cells
    tied = [("w", 0), ("b", 0), ("h", 1), ("r", 1), ("v", 1)]
    labels = [known.classes[cells.ids((value(known, name), axis))] for name, axis in tied]
    assert all(np.array_equal(one, labels[0]) for one in labels)


def test_what_an_unknown_op_reads_is_needed(parse, flow):
    text = TEXT.replace("y = Conv(r, v)", "y = Softmax(r)").replace("2,4,4] y", "4,4,4] y")
    w = np.ones((4, 2, 1, 1), np.float32)
    found = flow(parse(text, w=w, b=np.ones(4, np.float32)))
    none = np.zeros(found.cells.count, bool)
    assert found.needed(none, none)[found.cells.ids((value(found, "r"), 1))].all()


def test_a_tensor_of_unknown_rank_is_left_alone(parse, flow, ops):
    """A custom op tells no shape; what lies behind it is not cut, and nothing crashes."""
    model = parse(TEXT, w=np.zeros((4, 2, 1, 1), np.float32), b=np.zeros(4, np.float32),
                  v=np.ones((2, 4, 1, 1), np.float32))  # fmt: skip
    odd = ir.node("Odd", [model.graph.inputs[0]], domain="custom")
    odd.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    model.graph.opset_imports["custom"] = 1
    first = model.graph[0]
    model.graph.insert_before(first, odd)
    first.replace_input_with(0, odd.outputs[0])
    pins = {(v.name, axis): reason for (v, axis), reason in flow(model).cells.pins.items()}
    assert pins["w", 0] == "Conv '' has a tensor of unknown rank"


def test_every_rule_names_its_ops_and_no_op_has_two():
    from deploypipe.graph.channels.rule import rules

    families = {rule: rule.ops for rule in rules().values()}
    assert sum(map(len, families.values())) == len(rules())


def test_a_uniform_flow_ties_the_same_places_of_all_groups(parse):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        h = Conv(x, w)
        d = Conv <group = 2> (h, gw)
        y = Conv(d, v)}"""
    arrays = {"w": (6, 2, 1, 1), "gw": (4, 3, 1, 1), "v": (2, 4, 1, 1)}
    model = parse(text, **{name: np.ones(shape, np.float32) for name, shape in arrays.items()})
    infer_shapes(model)
    free, tied = Dataflow(model.graph), Dataflow(model.graph, uniform=True)
    assert len(free.limits) == 1 and not tied.limits
    ids = tied.cells.ids((value(tied, "h"), 1))
    assert tied.classes[ids[:3]].tolist() == tied.classes[ids[3:]].tolist()
    assert len(set(free.classes[ids])) == 6


@pytest.mark.parametrize(("inner", "axis"), [(False, 2), (True, 3)])
def test_a_split_axis_is_read_in_two_ways(parse, inner, axis):
    text = """g (float[N,5,4] x) => (float[N,5,2] y) {
        a = MatMul(x, w)
        h = Reshape(a, split)
        m = Reshape(h, merge)
        y = MatMul(m, v)}"""
    w, v = np.ones((4, 6), np.float32), np.ones((6, 2), np.float32)
    shapes = {"split": np.array([0, 5, 2, 3]), "merge": np.array([0, 5, 6])}
    model = parse(text, w=w, v=v, **shapes)
    infer_shapes(model)
    flow = Dataflow(model.graph, inner=inner)
    assert flow.ambiguous
    pins = {number for value, number in flow.cells.pins if value.name == "h"}
    assert pins == {1, 2, 3} - {axis} or pins == {2, 3} - {axis}


HEADS = """g (float[N,3,8] x) => (float[N,3,4] y) {
    a = MatMul(x, wq)  q0 = Reshape(a, split)  q = Transpose <perm = [0,2,1,3]> (q0)
    b = MatMul(x, wk)  k0 = Reshape(b, split)  k = Transpose <perm = [0,2,3,1]> (k0)
    c = MatMul(x, wv)  v0 = Reshape(c, split)  v = Transpose <perm = [0,2,1,3]> (v0)
    s = MatMul(q, k)  m = Add(s, mask)  p = Softmax <axis = -1> (m)
    o = MatMul(p, v)  t = Transpose <perm = [0,2,1,3]> (o)  f = Reshape(t, join)
    y = MatMul(f, wo) }"""


def causal(number: float) -> np.ndarray:
    """What the first two of three places may not see."""
    return np.triu(np.full((1, 1, 3, 3), number, np.float32), 1)


@pytest.mark.parametrize(
    ("mask", "gone"),
    [
        (causal(-np.inf), {0: [4, 5, 6, 7]}),
        (np.repeat(causal(np.finfo(np.float32).min), 2, 1), {0: [4, 5, 6, 7]}),
        (causal(np.nan), None),
        (np.full((1, 1, 3, 3), -np.inf, np.float32), None),
    ],
    ids=["infinite", "the largest number", "nan", "nothing else"],
)
def test_a_mask_of_infinities_is_only_added(cut, mask, gone):
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((8, 8)) for name in ("wq", "wk", "wv")}
    weights["wv"][:, 4:] = 0
    weights["wo"] = rng.standard_normal((8, 4))
    arrays = {name: array.astype(np.float32) for name, array in weights.items()}
    shapes = {"split": np.array([0, 0, 2, 4]), "join": np.array([0, 0, 8])}
    with np.errstate(invalid="ignore"):
        done = cut(HEADS, exact=False, ort=True, mask=mask, **arrays, **shapes)
    assert done.gone.get("wo") == gone
    assert ("wq" in done.gone) is (gone is not None)
