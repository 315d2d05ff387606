"""Constants known along several axes at once: the values of an attention, head by head."""

from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.channels.rule import Joint, Values

HEADS = """g (float[N,5,4] x) => (float[N,5,2] y) {
    q = MatMul(x, wq)
    k = MatMul(x, wk)
    v0 = MatMul(x, wv)
    v = Add(v0, bv)
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


def ramp(*shape: int) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 5 - 1.5).reshape(shape).astype(np.float32)


def weights(
    dead: tuple[int, ...] = (), bias: tuple[float, ...] = (0,) * 6
) -> dict[str, np.ndarray]:
    """Two heads of three dimensions."""
    wv = ramp(4, 6)
    wv[:, list(dead)] = 0
    plain = {"wq": ramp(4, 6) / 4, "wk": ramp(4, 6) / 4, "wv": wv, "wo": ramp(6, 2)}
    shapes = {"split": np.array([0, 5, 2, 3]), "merge": np.array([0, 5, 6])}
    return {**plain, **shapes, "bv": np.array(bias, np.float32)}


def test_a_head_of_different_constants_goes_into_the_bias(cut):
    """Values 3, 4 and 5 are constant, so the second head gives them back whatever it looks at."""
    done = cut(HEADS, exact=False, **weights((3, 4, 5), (0, 0, 0, 2, -1, 3)))
    for name in ("wq", "wk", "wv"):
        assert done.gone[name] == {1: [3, 4, 5]}
    assert done.ops[-2:] == ["MatMul", "Add"]
    wanted = np.array([2, -1, 3]) @ ramp(6, 2)[3:]
    np.testing.assert_allclose(done.after.graph[-1].inputs[1].const_value.numpy(), wanted)


def test_a_head_of_zeros_goes(cut):
    done = cut(HEADS, exact=False, **weights((0, 1, 2)))
    assert done.gone["wv"] == {1: [0, 1, 2]}


def test_a_head_with_one_live_dimension_stays(cut):
    done = cut(HEADS, exact=False, **weights((4, 5), (0, 0, 0, 0, -1, 3)))
    assert done.array("wq").shape == (4, 6)


@pytest.mark.parametrize("bias", [(0, 2, 0, 0, 2, 0), (0, 2, 0, 0, -1, 0)])
def test_the_same_dimension_of_all_heads_goes_with_its_constants(cut, bias):
    done = cut(HEADS, exact=False, **weights((1, 4), bias))
    assert done.array("wv").shape[1] == 4


def test_a_joint_is_moved_with_its_axes():
    joint = Joint((1, 3), np.array([[1.0, np.nan], [2, 3]]))
    moved = joint.moved({0: 0, 1: 2, 2: 1, 3: 3})
    assert moved is not None and moved.axes == (2, 3)
    assert joint.moved({1: 1}) is None
    assert joint.whole(1).tolist() == [False, True] and joint.whole(3).tolist() == [True, False]


def test_a_joint_of_one_axis_is_an_ordinary_vector(parse):
    value = parse("g (float[N,3] x) => (float[N,3] y) {y = Relu(x)}").graph.outputs[0]
    known = Values()
    known.set_joint(value, Joint((1,), np.array([1.0, np.nan, 2])))
    np.testing.assert_array_equal(known.of(value, 1), [1, np.nan, 2])
    assert not known.joint


FUSED = """g (float[N,5,4] x) => (float[N,5,2] y) {{
    a0 = MatMul(x, w)
    a1 = Add(a0, b)
    a2 = Reshape(a1, split)
    a = Transpose <perm = [0, 2, 1, 3]> (a2)
    {parts}
    kt = Transpose <perm = [0, 1, 3, 2]> (k)
    s = MatMul(q, kt)
    p = Softmax(s)
    o = MatMul(p, v)
    ot = Transpose <perm = [0, 2, 1, 3]> (o)
    m = Reshape(ot, merge)
    y = MatMul(m, wo)}}"""
SLICED = "\n".join(
    f"{name} = Slice(a, at{k}, at{k + 1}, last)" for k, name in enumerate(("q", "k", "v"))
)


@pytest.mark.parametrize(
    "parts", ["q, k, v = Split <axis = 3> (a, sizes)", SLICED], ids=["Split", "Slice"]
)
def test_a_head_of_one_fused_product_goes_with_its_constants(cut, parts):
    """Each head has its queries, keys and values side by side, as in GPT-NeoX."""
    w, b = ramp(4, 18) / 4, np.zeros(18, np.float32)
    w[:, 15:], b[15:] = 0, [2, -1, 3]
    more = {"split": np.array([0, 5, 2, 9]), "merge": np.array([0, 5, 6]), "wo": ramp(6, 2)}
    if "Split" in parts:
        more["sizes"] = np.array([3, 3, 3])
    else:
        more |= {f"at{k}": np.array([3 * k]) for k in range(4)} | {"last": np.array([3])}
    done = cut(FUSED.format(parts=parts), exact=False, w=w, b=b, **more)
    assert done.gone["w"] == {1: list(range(9, 18))}
    assert done.gone["wo"] == {0: [3, 4, 5]}


APART = "\n".join(
    f"{name}1 = Slice(a, at{k}, at{k + 1}, first)\n{name} = Squeeze({name}1, first)"
    for k, name in enumerate(("q", "k", "v"))
)


def test_a_head_of_a_product_that_is_sliced_and_squeezed_goes_with_its_constants(cut):
    """Queries, keys and values lie on an axis of their own, as timm has it."""
    text = FUSED.format(parts=APART).replace("[0, 2, 1, 3]> (a2)", "[2, 0, 3, 1, 4]> (a2)")
    w, b = ramp(4, 18) / 4, np.zeros(18, np.float32)
    for start, bias in ((3, [1, 2, 3]), (9, [0.5, 1, -1]), (15, [2, -1, 3])):
        w[:, start : start + 3], b[start : start + 3] = 0, bias
    more = {"split": np.array([0, 5, 3, 2, 3]), "merge": np.array([0, 5, 6]), "wo": ramp(6, 2)}
    more |= {f"at{k}": np.array([k]) for k in range(4)} | {"first": np.array([0])}
    done = cut(text, exact=False, w=w, b=b, **more)
    assert done.gone["wo"] == {0: [3, 4, 5]}
    assert done.array("w").shape == (4, 9)


def test_axes_of_size_one_carry_nothing(parse):
    value = parse("g (float[1,2,3] x) => (float[1,2,3] y) {y = Relu(x)}").graph.outputs[0]
    known = Values()
    known.set_joint(value, Joint((0, 2), np.array([[1.0, np.nan, 2]])))
    np.testing.assert_array_equal(known.of(value, 2), [1, np.nan, 2])
    known.set_joint(value, Joint((2, 0, 1), np.ones((3, 1, 2))))
    assert known.joint[value].axes == (2, 1) and known.joint[value].array.shape == (3, 2)
