from __future__ import annotations

import numpy as np
import pytest


def ramp(*shape: int, dead: tuple[int, ...] = (), axis: int = 0) -> np.ndarray:
    array = (np.arange(np.prod(shape)) % 5 - 2).reshape(shape).astype(np.float32)
    array[array == 0] = 3
    np.moveaxis(array, axis, 0)[list(dead)] = 0
    return array


CHAIN = """g (float[N,3,4] x) => (float[N,3,2] y) {
    a = MatMul(x, w)
    h = Add(a, b)
    y = MatMul(h, v)}"""


def weights(*dead: int, b: tuple[int, ...] = (0, 0, 0, 0, 0)) -> dict[str, np.ndarray]:
    v = ramp(5, 2)
    return {"w": ramp(4, 5, dead=dead, axis=1), "b": np.array(b, np.float32), "v": v}


def test_a_dead_unit_leaves_a_product_with_constant_weights(cut):
    done = cut(CHAIN, **weights(1))
    assert done.gone["w"] == {1: [1]} and done.gone["v"] == {0: [1]}


def test_a_constant_becomes_an_add_that_keeps_the_name_of_the_output(cut):
    done = cut(CHAIN, **weights(1, b=(0, 5, 0, 0, 0)))
    assert done.gone["w"] == {1: [1]} and done.ops == ["MatMul", "Add", "MatMul", "Add"]
    assert done.after.graph.outputs[0].name == "y"


FOLLOWED = CHAIN.replace("y = MatMul(h, v)", "c = MatMul(h, v)\nd = Add(c, k)\ny = MatMul(d, u)")


def follow(**more: np.ndarray) -> dict[str, np.ndarray]:
    arrays = weights(1, b=(0, 5, 0, 0, 0))
    return {**arrays, "v": ramp(5, 4), "k": ramp(4), "u": ramp(4, 2, dead=(2,)), **more}


def test_a_constant_goes_into_the_add_that_follows(cut):
    done = cut(FOLLOWED, **follow())
    assert done.ops == ["MatMul", "Add"] * 2 + ["MatMul"]
    left = [0, 1, 3]
    assert done.array("k").tolist() == (ramp(4) + 5 * ramp(5, 4)[1])[left].tolist()


def test_the_add_that_follows_may_come_the_other_way_round(cut):
    assert cut(FOLLOWED.replace("Add(c, k)", "Add(k, c)"), **follow()).ops.count("Add") == 2


@pytest.mark.parametrize("k", [ramp(3, 4), ramp(1, 4), np.float32(2)])
def test_an_add_of_another_shape_is_left_alone(cut, k):
    done = cut(FOLLOWED, **follow(k=k))
    assert done.ops.count("Add") == 3


def test_an_add_that_follows_an_output_of_the_graph_is_left_alone(cut):
    text = FOLLOWED.replace("[N,3,2] y)", "[N,3,2] y, float[N,3,4] c)")
    done = cut(text, **follow())
    assert done.gone["v"] == {0: [1]} and done.ops.count("Add") == 3
    assert [value.name for value in done.after.graph.outputs] == ["y", "c"]


def test_an_add_inside_a_subgraph_is_left_alone(cut):
    text = """g (float[N,3,4] x, bool t) => (float[N,3,2] y) {
        a = MatMul(x, w)
        h = Add(a, b)
        c = MatMul(h, v)
        y = If (t) <then_branch = a1 () => (float[N,3,2] p) {p = Add(c, k)},
                    else_branch = b1 () => (float[N,3,2] q) {q = Neg(k2)}>}"""
    arrays = weights(1, b=(0, 5, 0, 0, 0))
    k2 = np.ones((1, 3, 2), np.float32)
    assert cut(text, k=ramp(2), k2=np.repeat(k2, 1, 0), **arrays).gone["w"] == {1: [1]}


def test_a_shared_add_operand_is_left_to_the_other(cut):
    text = FOLLOWED.replace("y = MatMul(d, u)", "e = Mul(d, k)\ny = MatMul(e, u)")
    done = cut(text, **follow(u=ramp(4, 2)))
    assert done.gone["v"] == {0: [1]}
    factor = done.node("Mul").inputs[1]
    assert factor is not None and factor.const_value.numpy().tolist() == ramp(4).tolist()


def test_constants_fold_while_outputs_go(cut):
    text = FOLLOWED.replace("d = Add(c, k)", "d = Relu(c)")
    arrays = follow()
    del arrays["k"]
    done = cut(text, **arrays)
    assert done.gone["v"] == {0: [1], 1: [2]} and done.ops.count("Add") == 2


def test_rows_of_constant_weights_on_the_left_go(cut):
    text = """g (float[4,5] x) => (float[2,5] y) {
        a = MatMul(w, x)
        r = Relu(a)
        y = MatMul(v, r)}"""
    done = cut(text, w=ramp(3, 4, dead=(1,)), v=ramp(2, 3))
    assert done.gone["w"] == {0: [1]} and done.gone["v"] == {1: [1]}


def test_a_constant_row_behind_weights_on_the_left_stays(cut):
    text = """g (float[4,5] x) => (float[2,5] y) {
        a = MatMul(w, x)
        h = Add(a, b)
        y = MatMul(v, h)}"""
    b = np.array([[0], [5], [0]], np.float32)
    assert cut(text, w=ramp(3, 4, dead=(1,)), b=b, v=ramp(2, 3)).gone == {}


def test_an_input_of_unknown_size_is_left_alone(cut):
    text = """g (float[N,H] x) => (float[N,2] y) {
        h = MatMul(x, w)
        y = MatMul(h, v)}"""
    assert cut(text, w=ramp(5, 3, dead=(1,), axis=1), v=ramp(3, 2)).gone == {}


ATTENTION = """g (float[N,5,4] x) => (float[N,5,2] y) {
    q = MatMul(x, wq)
    k = MatMul(x, wk)
    v0 = MatMul(x, wv)
    v = Add(v0, bv)
    kt = Transpose <perm = [0, 2, 1]> (k)
    s = MatMul(q, kt)
    p = Softmax(s)
    o = MatMul(p, v)
    y = MatMul(o, wo)}"""


def attention(**other: np.ndarray) -> dict[str, np.ndarray]:
    plain = {name: ramp(4, 3) / 4 for name in ("wq", "wk")}
    plain |= {"wv": ramp(4, 6), "bv": np.zeros(6, np.float32), "wo": ramp(6, 2)}
    return {**plain, **other}


@pytest.mark.parametrize("side", ["wq", "wk"])
def test_a_dead_dimension_of_the_queries_takes_the_keys_along_and_back(cut, side):
    dead = {side: ramp(4, 3, dead=(1,), axis=1) / 4}
    done = cut(ATTENTION, exact=False, **attention(**dead))
    assert done.gone["wq"] == done.gone["wk"] == {1: [1]}


def test_dimensions_dead_on_one_side_each_go_on_both(cut):
    dead = {"wq": ramp(4, 3, dead=(0,), axis=1) / 4, "wk": ramp(4, 3, dead=(2,), axis=1) / 4}
    done = cut(ATTENTION, exact=False, **attention(**dead))
    assert done.gone["wq"] == done.gone["wk"] == {1: [0, 2]}


def test_a_constant_dimension_of_the_queries_stays(cut):
    text = ATTENTION.replace("q = MatMul(x, wq)", "q0 = MatMul(x, wq)\nq = Add(q0, bq)")
    dead = {"wq": ramp(4, 3, dead=(1,), axis=1) / 4, "bq": np.array([0, 1, 0], np.float32)}
    assert cut(text, exact=False, **attention(**dead)).gone == {}


def test_a_dead_dimension_of_the_values_goes(cut):
    done = cut(ATTENTION, exact=False, **attention(wv=ramp(4, 6, dead=(1, 4), axis=1)))
    assert done.gone["wv"] == {1: [1, 4]} and done.gone["wo"] == {0: [1, 4]}


def test_a_constant_dimension_of_the_values_is_constant_behind_a_softmax(cut):
    bv = np.array([0, 3, 0, 0, -2, 0], np.float32)
    done = cut(ATTENTION, exact=False, **attention(wv=ramp(4, 6, dead=(1, 4), axis=1), bv=bv))
    assert done.gone["wv"] == {1: [1, 4]} and done.ops[-2:] == ["MatMul", "Add"]


@pytest.mark.parametrize("between", ["Identity", "Dropout"])
def test_what_does_nothing_may_lie_behind_the_softmax(cut, between):
    text = ATTENTION.replace("p = Softmax(s)", f"p0 = Softmax(s)\np = {between}(p0)")
    bv = np.array([0, 3, 0, 0, 0, 0], np.float32)
    done = cut(text, exact=False, **attention(wv=ramp(4, 6, dead=(1,), axis=1), bv=bv))
    assert done.gone["wv"] == {1: [1]}


def test_rows_that_are_only_put_into_another_shape_still_add_up_to_one(cut):
    text = ATTENTION.replace("p = Softmax(s)", "p0 = Softmax(s)\np = Reshape(p0, rows)")
    bias = np.array([0, 2, 0, 0, 0, 0], np.float32)
    more = attention(wv=ramp(4, 6, dead=(1,), axis=1), bv=bias)
    assert cut(text, exact=False, rows=np.array([-1, 5, 5]), **more).gone["wo"] == {0: [1]}
    text = text.replace("Softmax(s)", "Softmax <axis = 1> (s)")
    assert "wo" not in cut(text, exact=False, rows=np.array([-1, 5, 5]), **more).gone


@pytest.mark.parametrize("weigh", ["Sigmoid(s)", "Softmax <axis = 1> (s)", "Relu(s)"])
def test_a_constant_of_the_values_is_live_where_rows_do_not_add_up_to_one(cut, weigh):
    text = ATTENTION.replace("Softmax(s)", weigh)
    bv = np.array([0, 3, 0, 0, 0, 0], np.float32)
    done = cut(text, exact=False, **attention(wv=ramp(4, 6, dead=(1,), axis=1), bv=bv))
    assert done.gone == {}


def test_queries_and_keys_of_values_that_nobody_reads_go_too(cut):
    """Two heads; the second's outputs have no weights behind them."""
    text = """g (float[N,5,4] x) => (float[N,5,2] y) {
        q = MatMul(x, wq)
        k = MatMul(x, wk)
        v = MatMul(x, wv)
        q2 = Reshape(q, split)
        k2 = Reshape(k, split)
        v2 = Reshape(v, split)
        qt = Transpose <perm = [0, 2, 1, 3]> (q2)
        kt = Transpose <perm = [0, 2, 3, 1]> (k2)
        vt = Transpose <perm = [0, 2, 1, 3]> (v2)
        s = MatMul(qt, kt)
        p = Softmax(s)
        o = MatMul(p, vt)
        ot = Transpose <perm = [0, 2, 1, 3]> (o)
        m = Reshape(ot, merge)
        y = MatMul(m, wo)}"""
    arrays = {name: ramp(4, 6) / 4 for name in ("wq", "wk", "wv")}
    arrays |= {"wo": ramp(6, 2, dead=(3, 4, 5))}
    shapes = {"split": np.array([0, 5, 2, 3]), "merge": np.array([0, 5, 6])}
    done = cut(text, exact=False, **arrays, **shapes)
    for name in ("wq", "wk", "wv"):
        assert done.gone[name] == {1: [3, 4, 5]}
    assert done.gone["s"] == {1: [1]}


BATCHED = """g (float[2,5,4] x, float[B,4,6] z) => (float[2,5,6] y) {
    w2 = MatMul(x, w)
    y = MatMul(w2, z)}"""


@pytest.mark.parametrize("shape", ["2,4,6", "1,4,6", "4,6"])
def test_the_other_side_may_be_stretched_over_the_batch(cut, shape):
    text = BATCHED.replace("B,4,6", shape)
    assert cut(text, w=ramp(4, 4, dead=(1,), axis=1)).gone == {}  # z is an input: it stays whole


def test_a_summed_axis_of_unknown_size_on_one_side_stays(cut):
    text = """g (float[N,2] x, float[H,3] z) => (float[N,3] y) {
        h = MatMul(x, w)
        y = MatMul(h, z)}"""
    assert cut(text, w=ramp(2, 5, dead=(1,), axis=1)).gone == {}


EINSUM = {
    "bik,bjk->bij": "scores",
    "bik, b j k -> b i j": "blanks",
    "bki,bkj->bij": "over the first",
}


@pytest.mark.parametrize("equation", EINSUM)
def test_dimensions_that_are_summed_over_go_from_both_sides(cut, equation):
    text = f"""g (float[2,3,4] x) => (float[2,A,B] y) {{
        q = MatMul(x, wq)
        k = MatMul(x, wk)
        y = Einsum <equation = "{equation}"> (Q, K)}}"""
    turned = equation.startswith("bki")
    turn = "qt = Transpose <perm = [0,2,1]> (q)\nkt = Transpose <perm = [0,2,1]> (k)\ny ="
    text = text.replace("y =", turn) if turned else text
    text = text.replace("Q, K", "qt, kt" if turned else "q, k")
    done = cut(text, wq=ramp(4, 5, dead=(1,), axis=1), wk=ramp(4, 5, dead=(3,), axis=1))
    assert done.gone["wq"] == done.gone["wk"] == {1: [1, 3]}


def test_dimensions_that_an_einsum_keeps_pass(cut):
    text = """g (float[2,3,4] x) => (float[2,3,2] y) {
        q = MatMul(x, wq)
        k = MatMul(x, wk)
        e = Einsum <equation = "bik,bij->bkj"> (q, k)
        t = Einsum <equation = "bkj,ik->bij"> (e, c)
        y = MatMul(t, v)}"""
    arrays = {"wq": ramp(4, 5, dead=(1,), axis=1), "wk": ramp(4, 6, dead=(2,), axis=1)}
    done = cut(text, c=ramp(3, 5), v=ramp(6, 2), **arrays)
    assert done.gone["wq"] == {1: [1]} and done.gone["c"] == {1: [1]}
    assert done.gone["wk"] == {1: [2]} and done.gone["v"] == {0: [2]}


def test_a_diagonal_of_a_batch_letter_goes_from_both_sides(cut):
    text = """g (float[3,4] x) => (float[3,2] y) {
        q = MatMul(x, wq)
        k = MatMul(x, wk)
        e = Einsum <equation = "ij,ij->ij"> (q, k)
        y = MatMul(e, v)}"""
    arrays = {"wq": ramp(4, 5, dead=(1,), axis=1), "wk": ramp(4, 5, dead=(2,), axis=1)}
    done = cut(text, v=ramp(5, 2), **arrays)
    assert done.gone["wq"] == done.gone["wk"] == {1: [1, 2]}


@pytest.mark.parametrize(
    "equation", ["bii,bij->bij", "b...k,b...k->b...", "bij,bkj->b", "bij,bkj", "bij,bkl->bil"]
)
def test_equations_beyond_a_plain_product_pin(parse, flow, equation):
    text = f"""g (float[2,3,4] x) => (float[A,B,C] y) {{
        q = MatMul(x, w)
        k = MatMul(x, w)
        y = Einsum <equation = "{equation}"> (q, k)}}"""
    found = flow(parse(text, w=ramp(4, 3, dead=(1,), axis=1)))
    assert found.pinned[found.computed].all()


def test_a_product_of_three_tensors_pins(parse, flow):
    text = """g (float[3,4] x) => (float[3,3] y) {
        q = MatMul(x, w)
        y = Einsum <equation = "ij,kj,jk->ik"> (q, q, q)}"""
    found = flow(parse(text, w=ramp(4, 3, dead=(1,), axis=1)))
    assert found.pinned[found.computed].all()


def test_a_product_of_a_tensor_with_itself_keeps_what_is_live(cut):
    text = """g (float[3,4] x) => (float[3,3] y) {
        h = MatMul(x, w)
        t = Transpose <perm = [1, 0]> (h)
        y = MatMul(h, t)}"""
    assert cut(text, w=ramp(4, 3, dead=(1,), axis=1)).gone["w"] == {1: [1]}


def test_a_product_that_is_all_zero_is_zero(cut):
    """Every summed dimension is zero on one side or the other."""
    text = """g (float[N,3,4] x) => (float[N,3,2] y) {
        q = MatMul(x, wq)
        k = MatMul(x, wk)
        t = Transpose <perm = [0, 2, 1]> (k)
        s = MatMul(q, t)
        c = Concat <axis = 2> (x, s)
        y = MatMul(c, v)}"""
    wq, wk = ramp(4, 5, dead=(0, 1, 2), axis=1), ramp(4, 5, dead=(3, 4), axis=1)
    done = cut(text, wq=wq, wk=wk, v=ramp(7, 2))
    assert done.array("wq").shape == done.array("wk").shape == (4, 1)


def test_a_constant_that_only_dead_outputs_read_adds_nothing(cut):
    v = ramp(5, 4)
    v[1, :3] = 0
    text = FOLLOWED.replace("d = Add(c, k)", "d = Relu(c)")
    done = cut(text, w=weights(1)["w"], b=np.array([0, 5, 0, 0, 0], np.float32), v=v,
               u=ramp(4, 2, dead=(3,)))  # fmt: skip
    assert done.gone["v"] == {0: [1], 1: [3]} and done.ops.count("Add") == 1


@pytest.mark.parametrize(("left", "right"), [("3", "3,2"), ("2,3", "3")])
def test_products_with_vectors_pin(parse, flow, left, right):
    text = f"g (float[{left}] x, float[{right}] z) => (float[A] y) {{y = MatMul(x, z)}}"
    pins = flow(parse(text)).cells.pins
    assert any("no product of two tensors" in why for why in pins.values())
