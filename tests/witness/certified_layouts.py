"""True certificates where cells move, go together, or are needed by nobody."""

from __future__ import annotations

import numpy as np
from certified import Case, constant, cut, taken, unread, weights, without, zero
from certified_sums import folded


def concat_split() -> Case:
    """Channel 1 of a and channel 0 of b are zero: 1 and 3 of their concatenation."""
    wa, wb, wc = weights(3, 2, 1, 1), weights(3, 2, 1, 1, seed=1), weights(2, 4, 1, 1)
    wa[1], wb[0] = 0, 0
    text = """(float[N,2,4,4] x) => (float[N,2,4,4] y, float[N,2,4,4] z) {
        a = Conv(x, wa)  b = Conv(x, wb)  ab = Concat<axis=1>(a, b)
        left, right = Split<axis=1>(ab, sizes)  y = Conv(left, wc)  z = Relu(right) }"""
    after_weights = {"wa": without(wa, 0, 1), "wb": without(wb, 0, 0), "wc": without(wc, 1, 1, 3)}
    return Case(
        text,
        {"wa": wa, "wb": wb, "wc": wc, "sizes": np.array([4, 2])},
        text,
        {**after_weights, "sizes": np.array([2, 2])},
        [
            *[zero("a", 1, 3, 1), zero("b", 1, 3, 0), zero("ab", 1, 6, 1, 3)],
            *[zero("left", 1, 4, 1, 3), cut("wa", 0, 3, 1), cut("wb", 0, 3, 0)],
            cut("wc", 1, 4, 1, 3),
        ],
    )


def depthwise() -> Case:
    """Channel 1 is zero through a depthwise convolution without a bias."""
    w1, wd, w2 = weights(4, 2, 1, 1), weights(4, 1, 3, 3), weights(2, 4, 1, 1)
    w1[1] = 0
    text = """(float[N,2,5,5] x) => (float[N,2,5,5] y) {
        c1 = Conv(x, w1)  d = Conv<group=4, pads=[1,1,1,1]>(c1, wd)  y = Conv(d, w2) }"""
    return Case(
        text,
        {"w1": w1, "wd": wd, "w2": w2},
        text.replace("group=4", "group=3"),
        {"w1": without(w1, 0, 1), "wd": without(wd, 0, 1), "w2": without(w2, 1, 1)},
        [
            *[zero("c1", 1, 4, 1), zero("d", 1, 4, 1), cut("w1", 0, 4, 1), cut("wd", 0, 4, 1)],
            cut("w2", 1, 4, 1),
        ],
    )


def grouped() -> Case:
    """Two groups of three lose a channel each, the first channel 0, the second its channel 2."""
    w1, wg = weights(6, 2, 1, 1), weights(4, 3, 3, 3)
    w1[[0, 5]] = 0
    text = """(float[N,2,5,5] x) => (float[N,4,3,3] y) {
        c1 = Conv(x, w1)  y = Conv<group=2>(c1, wg) }"""
    after = np.concatenate([without(wg[:2], 1, 0), without(wg[2:], 1, 2)])
    return Case(
        text,
        {"w1": w1, "wg": wg},
        text,
        {"w1": without(w1, 0, 0, 5), "wg": after},
        [zero("c1", 1, 6, 0, 5), cut("w1", 0, 6, 0, 5)],
    )


def residual() -> Case:
    """Channel 2 is zero on both sides of an addition."""
    w1, w2, w3 = weights(4, 2, 1, 1), weights(4, 4, 1, 1), weights(2, 4, 1, 1)
    w1[2], w2[2] = 0, 0
    text = """(float[N,2,4,4] x) => (float[N,2,4,4] y) {
        a = Conv(x, w1)  b = Conv(a, w2)  s = Add(a, b)  r = Relu(s)  y = Conv(r, w3) }"""
    return Case(
        text,
        {"w1": w1, "w2": w2, "w3": w3},
        text,
        {"w1": without(w1, 0, 2), "w2": w2[[0, 1, 3]][:, [0, 1, 3]], "w3": without(w3, 1, 2)},
        [
            *[zero(name, 1, 4, 2) for name in "absr"],
            *[cut("w1", 0, 4, 2), cut("w2", 0, 4, 2), cut("w2", 1, 4, 2), cut("w3", 1, 4, 2)],
        ],
    )


def flattened() -> Case:
    """Channel 1 of three is always -2; flattened, it is 4 to 7, and the bias of a Gemm takes it."""
    w1, b1, w2, b2 = weights(3, 2, 1, 1), weights(3), weights(5, 12), weights(5)
    w1[1], b1[1] = 0, -2
    text = """(float[N,2,2,2] x) => (float[N,5] y) {
        c = Conv(x, w1, b1)  f = Flatten(c)  y = Gemm<transB=1>(f, w2, b2) }"""
    gone = {f"i{i}": -2.0 for i in range(4, 8)}
    return Case(
        text,
        {"w1": w1, "b1": b1, "w2": w2, "b2": b2},
        text,
        {
            "w1": without(w1, 0, 1),
            "b1": without(b1, 0, 1),
            "w2": without(w2, 1, 4, 5, 6, 7),
            "b2": b2 - 2 * w2[:, 4:8].sum(1),
        },
        [
            *[constant("c", 1, 3, i1=-2.0), constant("f", 1, 12, **gone)],
            *[cut("w1", 0, 3, 1), cut("b1", 0, 3, 1), cut("w2", 1, 12, 4, 5, 6, 7)],
        ],
        compensations=[taken("y", "f", "bias", None, **gone)],
    )


def not_needed() -> Case:
    """Nothing reads channel 1 of the first Gemm: its weights in the second are zero."""
    w1, w2 = weights(4, 5), weights(5, 3)
    w2[1] = 0
    text = "(float[N,4] x) => (float[N,3] y) { a = Gemm(x, w1)  r = Relu(a)  y = Gemm(r, w2) }"
    return Case(
        text,
        {"w1": w1, "w2": w2},
        text,
        {"w1": without(w1, 1, 1), "w2": without(w2, 0, 1)},
        [
            *[unread("a", 1, 5, 1), unread("r", 1, 5, 1)],
            *[cut("w1", 1, 5, 1), cut("w2", 0, 5, 1)],
        ],
    )


def kept_garbage() -> Case:
    """Channel 1 of a stays though nothing needs it, because b is added; AFTER computes nonsense."""
    case = not_needed()
    garbage = case.before_weights["w1"].copy()
    garbage[:, 1] = 7
    case.after_weights = {**case.before_weights, "w1": garbage}
    case.removed = []
    case.unread = [{"tensor": name, "axis": 1, "index": [1]} for name in ("a", "r")]
    return case


def half() -> Case:
    """As ``folded``, in float16."""
    case = folded()
    for arrays in (case.before_weights, case.after_weights):
        arrays.update({name: array.astype(np.float16) for name, array in arrays.items()})
    case.before = case.before.replace("float[", "float16[")
    case.after = case.after.replace("float[", "float16[")
    return case


def shuffle() -> Case:
    """A shuffle of 2 x 3 channels, the second of the second row zero; AFTER has one Gather."""
    w1, w2 = weights(6, 2, 1, 1), weights(2, 6, 1, 1)
    w1[4] = 0
    order = np.arange(6).reshape(2, 3).T.ravel()  # 0 3 1 4 2 5
    text = """(float[N,2,4,4] x) => (float[N,2,4,4] y) {
        c = Conv(x, w1)  five = Reshape(c, split)  turned = Transpose<perm=[0,2,1,3,4]>(five)
        s = Reshape(turned, join)  y = Conv(s, w2) }"""
    after = """(float[N,2,4,4] x) => (float[N,2,4,4] y) {
        c = Conv(x, w1)  s = Gather<axis=1>(c, order)  y = Conv(s, w2) }"""
    place = int(np.flatnonzero(order == 4)[0])
    kept = [int(i) - (i > 4) for i in order if i != 4]
    shapes = {"split": np.array([0, 2, 3, 4, 4]), "join": np.array([0, 6, 4, 4])}
    return Case(
        text,
        {"w1": w1, "w2": w2, **shapes},
        after,
        {"w1": without(w1, 0, 4), "w2": without(w2, 1, place), "order": np.array(kept)},
        [
            *[zero("c", 1, 6, 4), zero("s", 1, 6, place)],
            *[cut("w1", 0, 6, 4), cut("w2", 1, 6, place)],
        ],
        replaced=[{"tensor": "s", "by": "one Gather"}],
    )


def captured() -> Case:
    """Both branches of an If read c from outside, whose channel 1 is zero, and a weight each."""
    w1, w2, w3 = weights(4, 2, 1, 1), weights(2, 4, 1, 1), weights(2, 4, 1, 1, seed=1)
    w1[1] = 0
    text = """(float[N,2,4,4] x, bool which) => (float[N,2,4,4] y) {
        c = Conv(x, w1)
        y = If (which) <
            then_branch = then () => (float[N,2,4,4] t) { t = Conv(c, w2) },
            else_branch = other () => (float[N,2,4,4] e) { r = Relu(c)  e = Conv(r, w3) }> }"""
    return Case(
        text,
        {"w1": w1, "w2": w2, "w3": w3},
        text,
        {"w1": without(w1, 0, 1), "w2": without(w2, 1, 1), "w3": without(w3, 1, 1)},
        [
            *[zero("c", 1, 4, 1), cut("w1", 0, 4, 1), cut("w2", 1, 4, 1)],
            cut("w3", 1, 4, 1),
        ],
    )


def quantized() -> Case:
    """Channel 2 is zero, 10 as uint8 (the zero point), and zero again; weights are int8."""
    w1, w2 = weights(4, 2, 1, 1), weights(2, 4, 1, 1)
    q1, q2 = ((w * 40).clip(-127, 127).astype(np.int8) for w in (w1, w2))
    q1[2] = 0
    text = """(float[N,2,4,4] x) => (float[N,2,4,4] y) {
        d1 = DequantizeLinear(q1, sw)  c = Conv(x, d1)
        q = QuantizeLinear(c, s, zp)  d = DequantizeLinear(q, s, zp)
        d2 = DequantizeLinear(q2, sw)  y = Conv(d, d2) }"""
    scales = {"sw": np.float32(0.025), "s": np.float32(0.02), "zp": np.uint8(10)}
    scales = {name: np.array(value) for name, value in scales.items()}
    return Case(
        text,
        {"q1": q1, "q2": q2, **scales},
        text,
        {"q1": without(q1, 0, 2), "q2": without(q2, 1, 2), **scales},
        [
            *[zero("c", 1, 4, 2), constant("q", 1, 4, i2=10), zero("d", 1, 4, 2)],
            *[cut("q1", 0, 4, 2), cut("d1", 0, 4, 2), cut("q2", 1, 4, 2), cut("d2", 1, 4, 2)],
        ],
    )


def reshaped_by_shape() -> Case:
    """A shape that is computed at run time says 4 channels before and 3 after."""
    w1, w2 = weights(4, 2, 1, 1), weights(2, 4)
    w1[1] = 0
    text = """(float[N,2,3,3] x) => (float[N,2,9] y) {
        c = Conv(x, w1)  shape = Shape<end=2>(c)  wanted = Concat<axis=0>(shape, rest)
        rows = Reshape(c, wanted)  y = MatMul(w2, rows) }"""
    return Case(
        text,
        {"w1": w1, "w2": w2, "rest": np.array([-1])},
        text,
        {"w1": without(w1, 0, 1), "w2": without(w2, 1, 1), "rest": np.array([-1])},
        [zero("c", 1, 4, 1), zero("rows", 1, 4, 1), cut("w1", 0, 4, 1), cut("w2", 1, 4, 1)],
    )


def bypassed() -> Case:
    """A branch of an addition is all zero; AFTER has neither the branch nor the addition."""
    w1 = np.zeros((3, 2, 1, 1), np.float32)
    w2 = weights(3, 2, 1, 1)
    text = """(float[N,2,4,4] x) => (float[N,3,4,4] y) {
        a = Conv(x, w1)  b = Conv(x, w2)  s = Add(a, b)  y = Relu(s) }"""
    after = """(float[N,2,4,4] x) => (float[N,3,4,4] y) { b = Conv(x, w2)  y = Relu(b) }"""
    removed = [zero("a", 1, 3, 0, 1, 2)]
    return Case(text, {"w1": w1, "w2": w2}, after, {"w2": w2}, removed)
