"""True certificates of channels that convolutions and matrix products sum over."""

from __future__ import annotations

import numpy as np
from certified import Case, cells, constant, cut, kept, taken, weights, without, zero


def conv_relu_conv(pads: str = "pads=[1,1,1,1]") -> Case:
    """Rows 1 and 3 of the first convolution are zero."""
    w1, b1, w2 = weights(5, 2, 3, 3), weights(5), weights(3, 5, 3, 3)
    w1[[1, 3]], b1[[1, 3]] = 0, 0
    text = f"""(float[N,2,8,8] x) => (float[N,3,H,W] y) {{
        c1 = Conv<{pads}>(x, w1, b1)  r1 = Relu(c1)  y = Conv<{pads}>(r1, w2) }}"""
    return Case(
        text,
        {"w1": w1, "b1": b1, "w2": w2},
        text,
        {"w1": without(w1, 0, 1, 3), "b1": without(b1, 0, 1, 3), "w2": without(w2, 1, 1, 3)},
        [
            zero("c1", 1, 5, 1, 3),
            zero("r1", 1, 5, 1, 3),
            cut("w1", 0, 5, 1, 3),
            cut("b1", 0, 5, 1, 3),
            cut("w2", 1, 5, 1, 3),
        ],
    )


def folded(pads: str = "") -> Case:
    """Channel 2 is always 0.75; the next bias takes it over, which needs no border."""
    case = conv_relu_conv(pads or "pads=[0,0,0,0]")
    w1, b1, w2 = weights(5, 2, 3, 3), weights(5), weights(3, 5, 3, 3)
    w1[2], b1[2] = 0, 0.75
    case.before_weights = {"w1": w1, "b1": b1, "w2": w2}
    case.after_weights = {"w1": without(w1, 0, 2), "b1": without(b1, 0, 2)}
    case.after_weights |= {"w2": without(w2, 1, 2), "b2": 0.75 * w2[:, 2].sum((1, 2))}
    case.after = case.after.replace("(r1, w2)", "(r1, w2, b2)")
    case.removed = [constant(name, 1, 5, i2=0.75) for name in ("c1", "r1")]
    case.removed += [cut("w1", 0, 5, 2), cut("b1", 0, 5, 2), cut("w2", 1, 5, 2)]
    case.compensations = [taken("y", "r1", "bias", None, i2=0.75)]
    return case


def merged() -> Case:
    """Channels 0, 2 and 3 are always 0.5, 0.75 and 2; channel 2 stays and speaks for the others."""
    case = conv_relu_conv()
    w1, b1, w2 = weights(5, 2, 3, 3), weights(5), weights(3, 5, 3, 3)
    w1[[0, 2, 3]], b1[[0, 2, 3]] = 0, [0.5, 0.75, 2]
    after = w2.copy()
    after[:, 2] += (0.5 * w2[:, 0] + 2 * w2[:, 3]) / 0.75
    case.before_weights = {"w1": w1, "b1": b1, "w2": w2}
    case.after_weights = {"w1": without(w1, 0, 0, 3), "b1": without(b1, 0, 0, 3)}
    case.after_weights |= {"w2": without(after, 1, 0, 3)}
    case.removed = [constant(name, 1, 5, i0=0.5, i3=2.0) for name in ("c1", "r1")]
    case.removed += [cut("w1", 0, 5, 0, 3), cut("b1", 0, 5, 0, 3), cut("w2", 1, 5, 0, 3)]
    case.compensations = [taken("y", "r1", "merge", 2, i0=0.5, i3=2.0)]
    case.constants = [kept(name, i2=0.75) for name in ("c1", "r1")]
    return case


def averaged() -> Case:
    """As ``merged``, but padding goes into averages: the channels are multiples of one pattern."""
    case = merged()
    text = "p = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(r1)  y = "
    for name in ("before", "after"):
        turned = getattr(case, name).replace("y = ", text).replace("(r1, w2)", "(p, w2)")
        setattr(case, name, turned)
    multiples = cells("p", 1, 5, "multiple", {0: 0.5 / 0.75, 3: 2 / 0.75})
    for cell in multiples["cells"]:
        cell["of"] = 2
    case.removed.append(multiples)
    case.compensations = [taken("y", "p", "merge", 2, i0=0.5, i3=2.0)]
    return case


def positions() -> Case:
    """Channel 1 is what is added to it at each place: the sum after the next convolution has it."""
    w1, w2, p = weights(3, 2, 1), weights(5, 3, 1), weights(1, 3, 4)
    w1[1] = 0
    text = """(float[N,2,4] x) => (float[N,5,4] y) {
        c = Conv(x, w1)  s = Add(c, p)  y = Conv(s, w2) }"""
    after = text.replace("y = Conv(s, w2)", "z = Conv(s, w2)  y = Add(z, all)")
    fixed = cells("s", 1, 3, "fixed", {1: p[0, 1].tolist()})
    fixed["cells"][0]["axes"] = [2]
    return Case(
        text,
        {"w1": w1, "w2": w2, "p": p},
        after,
        {"w1": without(w1, 0, 1), "w2": without(w2, 1, 1), "p": without(p, 1, 1)}
        | {"all": w2[:, 1] * p[0, 1]},
        [zero("c", 1, 3, 1), fixed, cut("w1", 0, 3, 1), cut("w2", 1, 3, 1), cut("p", 1, 3, 1)],
        compensations=[taken("y", "s", "bias", None, i1=0.0)],
    )


def attention() -> Case:
    """Value 1 is always 0.75, and so its weighted mean; the bias behind the projection takes it."""
    sizes = {"wq": (4, 3), "wv": (4, 4), "bv": (4,), "wo": (4, 5), "bo": (5,)}
    arrays = {name: weights(*shape) for name, shape in sizes.items()}
    arrays["wv"][:, 1], arrays["bv"][1] = 0, 0.75
    text = """(float[N,3,4] x) => (float[N,3,5] y) {
        q = MatMul(x, wq)  p = Softmax<axis=-1>(q)  v0 = MatMul(x, wv)  v = Add(v0, bv)
        o = MatMul(p, v)  m = MatMul(o, wo)  y = Add(m, bo) }"""
    after = {"wq": arrays["wq"], "bo": arrays["bo"] + 0.75 * arrays["wo"][1]}
    for name, axis in (("wv", 1), ("bv", 0), ("wo", 0)):
        after[name] = without(arrays[name], axis, 1)
    return Case(
        text,
        arrays,
        text,
        after,
        [
            *[zero("v0", 2, 4, 1), cells("v", 2, 4, "constant", {1: 0.75})],
            *[cells("o", 2, 4, "constant", {1: 0.75}), cut("wv", 1, 4, 1), cut("bv", 0, 4, 1)],
            cut("wo", 0, 4, 1),
        ],
        compensations=[taken("m", "o", "bias", None, i1=0.75) | {"axis": 2}],
    )


def constant_of_which_nothing_is_left() -> Case:
    """Channel 2 is always 0.75 and stays; in AFTER it is 9, and only the bias knows of 0.75."""
    case = folded()
    w1, b1, w2 = (case.before_weights[name].copy() for name in ("w1", "b1", "w2"))
    b1[2], w2[:, 2] = 9, 0
    case.after_weights |= {"w1": w1, "b1": b1, "w2": w2}
    case.removed, case.compensations = [], []
    case.constants = [kept(name, i2=0.75) for name in ("c1", "r1")]
    case.unread = [{"tensor": name, "axis": 1, "index": [2]} for name in ("c1", "r1")]
    return case


def merged_in_groups() -> Case:
    """Of two groups, the first's channel 1 goes into 0, the second's 4 into 5."""
    w1, b1, wg = weights(6, 2, 1, 1), weights(6), weights(4, 3, 3, 3)
    w1[[0, 1, 4, 5]], b1[[0, 1, 4, 5]] = 0, [0.5, 2, 3, -1]
    text = """(float[N,2,5,5] x) => (float[N,4,5,5] y) {
        c = Conv(x, w1, b1)  y = Conv<group=2, pads=[1,1,1,1]>(c, wg) }"""
    first, second = wg[:2].copy(), wg[2:].copy()
    first[:, 0] += 4 * first[:, 1]
    second[:, 2] -= 3 * second[:, 1]
    return Case(
        text,
        {"w1": w1, "b1": b1, "wg": wg},
        text,
        {
            "w1": without(w1, 0, 1, 4),
            "b1": without(b1, 0, 1, 4),
            "wg": np.concatenate([without(first, 1, 1), without(second, 1, 1)]),
        },
        [constant("c", 1, 6, i1=2.0, i4=3.0), cut("w1", 0, 6, 1, 4), cut("b1", 0, 6, 1, 4)],
        constants=[kept("c", i0=0.5, i5=-1.0)],
        compensations=[taken("y", "c", "merge", 0, i1=2.0), taken("y", "c", "merge", 5, i4=3.0)],
    )
