"""Certificates that are true and certificates that lie, on models that one can read."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import deploypipe
from deploypipe.core.errors import IntegrityError, UserError

pytest.importorskip("onnxruntime")

from deploypipe.witness.check import Checked, check_channels

HEAD = '<ir_version: 9, opset_import: ["" : 17]> g '


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def without(array: np.ndarray, axis: int, *indices: int) -> np.ndarray:
    return np.delete(array, indices, axis)


def cells(
    tensor: str, axis: int, size: int, what: str, found: dict[int, float | None], kind: str = ""
) -> dict[str, Any]:
    kind = kind or ("weight" if what == "cut" else "activation")
    listed = [
        {"index": index, "is": what, "value": value, "because": "test", "from": []}
        for index, value in found.items()
    ]
    return {"tensor": tensor, "axis": axis, "size": size, "kind": kind, "cells": listed}


def zero(tensor: str, axis: int, size: int, *indices: int, **more: str) -> dict[str, Any]:
    return cells(tensor, axis, size, "zero", dict.fromkeys(indices, 0.0), **more)


def constant(tensor: str, axis: int, size: int, **found: float) -> dict[str, Any]:
    return cells(tensor, axis, size, "constant", {int(k[1:]): v for k, v in found.items()})


def kept(tensor: str, **found: float) -> dict[str, Any]:
    index = [int(key[1:]) for key in found]
    return {"tensor": tensor, "axis": 1, "index": index, "values": list(found.values())}


def unread(tensor: str, axis: int, size: int, *indices: int) -> dict[str, Any]:
    return cells(tensor, axis, size, "unread", dict.fromkeys(indices))


def cut(tensor: str, axis: int, size: int, *indices: int) -> dict[str, Any]:
    return cells(tensor, axis, size, "cut", dict.fromkeys(indices))


def taken(tensor: str, source: str, how: str, into: int | None, **found: float) -> dict[str, Any]:
    removed = [int(key[1:]) for key in found]
    values = list(found.values())
    names = {"tensor": tensor, "input": source, "axis": 1}
    return {**names, "removed": removed, "values": values, "how": how, "into": into}


@dataclass
class Case:
    """Two graphs as text, their weights, and what a certificate says."""

    before: str
    before_weights: dict[str, np.ndarray]
    after: str
    after_weights: dict[str, np.ndarray]
    removed: list[dict[str, Any]]
    unread: list[dict[str, Any]] = field(default_factory=list)
    compensations: list[dict[str, Any]] = field(default_factory=list)
    replaced: list[dict[str, Any]] = field(default_factory=list)
    constants: list[dict[str, Any]] = field(default_factory=list)

    def check(self, folder: Path, **options: Any) -> Checked:
        return check_channels(*self.write(folder), **options)

    def write(self, folder: Path) -> tuple[Path, Path, Path]:
        names = ("removed", "unread", "compensations", "replaced", "constants")
        said = {"format": "deploypipe-channels", "version": 1}
        files = folder / "before.onnx", folder / "after.onnx", folder / "channels.json"
        write_model(files[0], self.before, self.before_weights)
        write_model(files[1], self.after, self.after_weights)
        files[2].write_text(json.dumps({**said, **{name: getattr(self, name) for name in names}}))
        return files


def write_model(file: Path, text: str, arrays: dict[str, np.ndarray]) -> None:
    model = onnx.parser.parse_model(HEAD + text)
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    onnx.save(model, file)


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


TRUE: list[Callable[[], Case]] = [
    *[conv_relu_conv, folded, merged, concat_split, depthwise, grouped, residual, flattened],
    *[not_needed, kept_garbage, half, shuffle, captured, quantized, reshaped_by_shape, bypassed],
    *[averaged, positions, attention, constant_of_which_nothing_is_left],
    merged_in_groups,
]


@pytest.mark.parametrize("make", TRUE, ids=lambda make: make.__name__)
def test_a_true_certificate_is_confirmed(make, tmp_path):
    case = make()
    found = case.check(tmp_path)
    listed = [cell for entry in case.removed for cell in entry["cells"]]
    others = [index for entry in case.unread + case.constants for index in entry["index"]]
    assert found.claims == len(listed) + len(others)
    assert found.pieces >= 2
    assert found.worst_error < 2e-3


Wrong = tuple[Callable[[], Case], Callable[[Case], Any], tuple[str, ...]]


def entry(case: Case, tensor: str) -> dict[str, Any]:
    return next(item for item in case.removed if item["tensor"] == tensor)


def say(case: Case, tensor: str, **changes: Any) -> None:
    """Change what is said of the first cell of a tensor."""
    entry(case, tensor)["cells"][0].update(changes)


def change(array: np.ndarray, at: Any, value: Any) -> None:
    array[at] = value


def scale(case: Case, name: str, at: Any, factor: float) -> None:
    case.after_weights[name][at] *= factor


def both(case: Case, old: str, new: str) -> None:
    """Change the text of both graphs."""
    case.before, case.after = (text.replace(old, new) for text in (case.before, case.after))


def swap(case: Case, name: str, axis: int) -> None:
    """The first two kept cells of a weight of AFTER change places."""
    array = case.after_weights[name]
    order = [1, 0, *range(2, array.shape[axis])]
    case.after_weights[name] = np.take(array, order, axis)


def instead(case: Case, name: str, axis: int, *indices: int) -> None:
    """Other cells of a weight than those of the certificate are gone."""
    case.after_weights[name] = without(case.before_weights[name], axis, *indices)


def forget(case: Case, tensor: str) -> None:
    case.removed.remove(entry(case, tensor))


def repeat(case: Case, tensor: str) -> None:
    entry(case, tensor)["cells"].append(entry(case, tensor)["cells"][0])


WRONG: dict[str, Wrong] = {
    "zero_with_a_bias": (
        conv_relu_conv,
        lambda c: change(c.before_weights["b1"], 3, 0.7),
        ("'c1' axis 1 index 3", "always 0.0", "node 'c1' (Conv) gives 0.7"),
    ),
    "zero_with_a_tiny_bias": (
        conv_relu_conv,
        lambda c: change(c.before_weights["b1"], 1, 1e-12),
        ("'c1' axis 1 index 1", "1e-12"),
    ),
    "zero_only_for_likely_inputs": (
        conv_relu_conv,
        lambda c: (
            change(c.before_weights["w1"], 1, 0.01),
            change(c.before_weights["b1"], 1, -9),
            say(c, "c1", **{"is": "unread", "value": None}),
        ),
        ("'r1' axis 1 index 1", "always 0.0", "node 'r1' (Relu) gives"),
    ),
    "constant_off_in_all_entries": (
        folded,
        lambda c: (say(c, "c1", value=0.751), say(c, "r1", value=0.751), c.compensations.clear()),
        ("'c1' axis 1 index 2", "always 0.751", "0.75"),
    ),
    "constant_off_in_the_second_entry": (
        folded,
        lambda c: (say(c, "r1", value=0.751), c.compensations.clear()),
        ("'r1' axis 1 index 2", "node 'r1' (Relu)"),
    ),
    "constant_off_in_the_bias": (
        folded,
        lambda c: scale(c, "b2", ..., 0.751 / 0.75),
        ("'y' at [", "in AFTER"),
    ),
    "bias_at_a_border": (lambda: folded("pads=[1,1,1,1]"), lambda c: None, ("'y' at [",)),
    "compensated_as_another": (
        folded,
        lambda c: c.compensations[0].update(values=[0.7]),
        ("'r1' axis 1 index 2", "compensated as 0.7"),
    ),
    "merged_by_a_wrong_ratio": (
        merged,
        lambda c: instead(c, "w2", 1, 0, 3),
        ("'y' at [", "in BEFORE"),
    ),
    "merged_into_what_is_not_constant": (
        merged,
        lambda c: c.compensations[0].update(into=1),
        ("'r1' axis 1 index 1", "not said to be always a constant"),
    ),
    "merged_into_what_is_removed": (
        merged,
        lambda c: c.compensations[0].update(into=3),
        ("'r1' axis 1 index 3", "is removed"),
    ),
    "merged_into_what_is_not_listed": (
        merged,
        lambda c: c.constants.clear(),
        ("'r1' axis 1 index 2", "not said to be always a constant"),
    ),
    "merged_into_another_constant": (
        merged,
        lambda c: c.constants[1].update(values=[0.8]),
        ("'r1' axis 1 index 2", "always 0.8", "gives 0.75"),
    ),
    "merged_into_what_only_looks_constant": (
        merged,
        lambda c: change(c.before_weights["w1"], 2, 1e-4),
        ("'c1' axis 1 index 2", "always 0.75"),
    ),
    "kept_and_removed_as_constant": (
        merged,
        lambda c: c.constants.append(kept("r1", i3=2.0)),
        ("'r1' axis 1 index 3", "listed twice"),
    ),
    "merged_within_the_wrong_group": (
        merged_in_groups,
        lambda c: scale(c, "wg", (3, 1), 1.01),
        ("'y' at [", "3, "),
    ),
    "no_constant_of_the_second_group": (
        merged_in_groups,
        lambda c: c.constants[0].update(index=[0], values=[0.5]),
        ("'c' axis 1 index 5", "not said to be always a constant"),
    ),
    "another_multiple": (
        averaged,
        lambda c: say(c, "p", value=0.66),
        ("'p' axis 1 index 0", "always 0.66 times index 2", "node 'p' (AveragePool) gives"),
    ),
    "a_multiple_of_what_is_alive": (
        averaged,
        lambda c: say(c, "p", of=1),
        ("'p' axis 1 index 0", "times index 1"),
    ),
    "a_multiple_of_what_is_removed": (
        averaged,
        lambda c: say(c, "p", of=3),
        ("'p' axis 1 index 0", "a multiple of index 3, which is not kept"),
    ),
    "a_multiple_of_nothing": (
        averaged,
        lambda c: say(c, "p", of=5),
        ("'p' axis 1 index 0", "a multiple of index 5, which is not kept"),
    ),
    "a_pattern_that_is_one_number": (
        averaged,
        lambda c: say(c, "p", **{"is": "constant", "value": 0.5}),
        ("'p' axis 1 index 0", "always 0.5"),
    ),
    "an_integer_multiple": (
        quantized,
        lambda c: say(c, "q", **{"is": "multiple", "value": 1.0, "of": 1}),
        ("'q' axis 1 index 2", "uint8"),
    ),
    "multiples_merged_by_a_wrong_ratio": (
        averaged,
        lambda c: instead(c, "w2", 1, 0, 3),
        ("'y' at [",),
    ),
    "fixed_as_another_array": (
        positions,
        lambda c: entry(c, "s")["cells"][0]["value"].reverse(),
        ("'s' axis 1 index 1", "the same array", "node 's' (Add) gives"),
    ),
    "fixed_but_read_from_the_input": (
        positions,
        lambda c: (change(c.before_weights["w1"], 1, 1e-3), say(c, "c", **{"is": "unread"})),
        ("'s' axis 1 index 1", "the same array"),
    ),
    "fixed_along_its_own_axis": (
        positions,
        lambda c: say(c, "s", axes=[1]),
        ("'s' axis 1 index 1", "vary along axes [1]"),
    ),
    "fixed_along_no_axis_that_there_is": (
        positions,
        lambda c: say(c, "s", axes=[-1]),
        ("'s' axis 1 index 1", "vary along axes [-1]"),
    ),
    "fixed_in_another_shape": (
        positions,
        lambda c: say(c, "s", value=[1.0, 2.0]),
        ("'s' axis 1 index 1", "shape [2], which is [4]"),
    ),
    "fixed_but_half_of_it_taken_over": (
        positions,
        lambda c: scale(c, "all", (..., 2), 0.5),
        ("'y' at [", "2]"),
    ),
    "a_mean_whose_weights_do_not_sum_to_1": (
        attention,
        lambda c: both(c, "Softmax<axis=-1>", "Sigmoid"),
        ("'o' axis 2 index 1", "always 0.75", "node 'o' (MatMul) gives"),
    ),
    "a_mean_that_no_bias_takes_over": (
        attention,
        lambda c: change(c.after_weights["bo"], ..., c.before_weights["bo"]),
        ("'y' at [",),
    ),
    "a_mean_that_is_missed_before_the_bias": (
        attention,
        lambda c: both(c, "float[N,3,5] y)", "float[N,3,5] y, float[N,3,5] m)"),
        ("'m' at [",),
    ),
    "a_mean_that_is_missed_beside_the_bias": (
        attention,
        lambda c: (
            both(c, "float[N,3,5] y)", "float[N,3,5] y, float[N,3,5] z)"),
            both(c, "y = Add(m, bo)", "z = Relu(m)  y = Add(m, bo)"),
        ),
        ("'z' at [",),
    ),
    "a_mean_that_is_missed_where_no_bias_is_said_to_be": (
        attention,
        lambda c: c.compensations.clear(),
        ("'m' at [",),
    ),
    "a_constant_that_AFTER_has_forgotten_but_reads": (
        constant_of_which_nothing_is_left,
        lambda c: change(c.after_weights["w2"], (1, 2), 1e-2),
        ("'y' at [", "1, "),
    ),
    "a_constant_that_AFTER_has_forgotten_but_reads_as_it_was": (
        constant_of_which_nothing_is_left,
        lambda c: c.after_weights.update(w2=c.before_weights["w2"], b2=np.zeros(3, np.float32)),
        ("'y' at [",),
    ),
    "the_same_node_of_fewer_cells": (
        folded,
        lambda c: (
            both(c, "float[N,3,H,W] y)", "float[N,3,H,W] y, float[N,H,W] z)"),
            both(c, "y = Conv", "z = ReduceMax<axes=[1], keepdims=0>(r1)  y = Conv"),
        ),
        ("'z' at [",),
    ),
    "a_constant_that_AFTER_has_forgotten_unsaid": (
        constant_of_which_nothing_is_left,
        lambda c: c.unread.pop(0),
        ("'c1' at [", "2, ", "9 in AFTER"),
    ),
    "a_forgotten_constant_that_was_another": (
        constant_of_which_nothing_is_left,
        lambda c: c.constants[0].update(values=[0.7]),
        ("'c1' axis 1 index 2", "always 0.7"),
    ),
    "unread_but_read_a_little": (
        not_needed,
        lambda c: change(c.before_weights["w2"], (1, 2), 1e-7),
        ("'r' axis 1 index 1", "unread", "'y' at [", "node 'y' (Gemm)"),
    ),
    "kept_unread_but_read": (
        kept_garbage,
        lambda c: c.unread[1]["index"].append(3),
        ("'r' axis 1 index 3", "unread"),
    ),
    "kept_garbage_that_is_not_listed": (
        kept_garbage,
        lambda c: c.unread.pop(0),
        ("'a' at [", "1]", "7"),
    ),
    "rows_swapped": (conv_relu_conv, lambda c: swap(c, "w1", 0), ("'c1' at [",)),
    "columns_swapped": (conv_relu_conv, lambda c: swap(c, "w2", 1), ("'y' at [",)),
    "other_columns_cut": (
        conv_relu_conv,
        lambda c: instead(c, "w2", 1, 0, 3),
        ("'y' at [",),
    ),
    "listed_twice": (
        conv_relu_conv,
        lambda c: repeat(c, "r1"),
        ("'r1' axis 1 index 1", "listed twice"),
    ),
    "removed_and_kept": (
        not_needed,
        lambda c: c.unread.append({"tensor": "r", "axis": 1, "index": [1]}),
        ("'r' axis 1 index 1", "listed twice"),
    ),
    "no_entry_for_a_tensor": (
        conv_relu_conv,
        lambda c: forget(c, "r1"),
        ("'r1' axis 1", "has 5 cells before and 3 after; 0 are listed"),
    ),
    "no_entry_for_a_weight": (
        conv_relu_conv,
        lambda c: forget(c, "w2"),
        ("'w2' axis 1", "has 5 cells before and 3 after"),
    ),
    "a_cell_that_is_still_there": (
        depthwise,
        lambda c: (forget(c, "w1"), c.removed.append(cut("w1", 0, 4, 1, 2))),
        ("'w1' axis 0", "has 4 cells before and 3 after; 2 are listed"),
    ),
    "one_weight_changed": (
        residual,
        lambda c: scale(c, "w3", (1, 2), 1.01),
        ("'y' at [", "1, "),
    ),
    "one_side_of_an_addition_is_alive": (
        residual,
        lambda c: change(c.before_weights["w2"], (2, 3), 0.1),
        ("'b' axis 1 index 2", "node 'b' (Conv)"),
    ),
    "another_channel_of_a_group": (
        grouped,
        lambda c: change(c.after_weights["wg"], slice(0, 2), c.before_weights["wg"][:2, [0, 2]]),
        ("'y' at [",),
    ),
    "split_elsewhere": (
        concat_split,
        lambda c: change(c.after_weights["sizes"], ..., [3, 1]),
        ("AFTER", "does not run"),
    ),
    "shuffled_wrongly": (shuffle, lambda c: swap(c, "order", 0), ("'s' at [",)),
    "a_branch_that_the_run_may_not_take": (
        captured,
        lambda c: scale(c, "w3", (1, 2), 1.1),
        ("'y' at [",),
    ),
    "another_branch_that_the_run_may_not_take": (
        captured,
        lambda c: scale(c, "w2", (1, 2), 1.1),
        ("'y' at [",),
    ),
    "another_integer": (
        quantized,
        lambda c: say(c, "q", value=9),
        ("'q' axis 1 index 2", "always 9", "gives 10"),
    ),
    "no_integer_of_this_type": (
        quantized,
        lambda c: say(c, "q", value=300),
        ("'q' axis 1 index 2", "uint8", "300"),
    ),
    "half_precision_but_another_constant": (
        half,
        lambda c: (say(c, "c1", value=0.76), say(c, "r1", value=0.76), c.compensations.clear()),
        ("'c1' axis 1 index 2",),
    ),
    "half_precision_but_another_weight": (
        half,
        lambda c: scale(c, "w2", (0, 1), 1.1),
        ("'y' at [",),
    ),
    "a_branch_that_is_not_zero": (
        bypassed,
        lambda c: change(c.before_weights["w1"], (2, 0), 1e-3),
        ("'a' axis 1 index 2",),
    ),
    "a_bypass_without_a_reason": (
        bypassed,
        lambda c: (change(c.before_weights["w1"], (2, 0), 1e-3), forget(c, "a")),
        ("'y' at [",),
    ),
    "a_flattened_block_shifted": (
        flattened,
        lambda c: instead(c, "w2", 1, 5, 6, 7, 8),
        ("'y' at [",),
    ),
    "no_such_tensor": (
        conv_relu_conv,
        lambda c: entry(c, "r1").update(tensor="r2"),
        ("'r2'", "no such tensor"),
    ),
    "no_such_replaced_tensor": (
        shuffle,
        lambda c: c.replaced[0].update(tensor="t"),
        ("'t'", "no such tensor"),
    ),
    "outside": (
        conv_relu_conv,
        lambda c: say(c, "r1", index=5),
        ("'r1' axis 1 index 5", "outside of the shape"),
    ),
    "from_the_end": (
        conv_relu_conv,
        lambda c: say(c, "r1", index=-2),
        ("'r1' axis 1 index -2", "outside"),
    ),
    "no_such_axis": (
        conv_relu_conv,
        lambda c: entry(c, "r1").update(axis=4),
        ("'r1' axis 4",),
    ),
    "another_size": (
        conv_relu_conv,
        lambda c: entry(c, "r1").update(size=6),
        ("'r1' axis 1", "6 cells"),
    ),
    "an_output": (
        conv_relu_conv,
        lambda c: c.removed.append(unread("y", 1, 3, 0)),
        ("'y' axis 1 index 0", "belongs to an output"),
    ),
    "an_input": (
        conv_relu_conv,
        lambda c: c.removed.append(zero("x", 1, 2, 0)),
        ("'x' axis 1 index 0", "belongs to an input"),
    ),
    "an_activation_cut_like_a_weight": (
        conv_relu_conv,
        lambda c: (forget(c, "r1"), c.removed.append(cut("r1", 1, 5, 1, 3))),
        ("'r1' axis 1 index 1", "no reason"),
    ),
    "a_weight_that_is_not_zero": (
        conv_relu_conv,
        lambda c: (forget(c, "w2"), c.removed.append(zero("w2", 1, 5, 1, 3, kind="weight"))),
        ("'w2' axis 1 index 1", "the weight has"),
    ),
    "another_output": (
        conv_relu_conv,
        lambda c: setattr(
            c, "after", c.after.replace("[N,3,H,W] y", "[N,3,H,W] y, float[N,3,H,W] c1")
        ),
        ("inputs and outputs",),
    ),
    "AFTER_does_not_run": (
        conv_relu_conv,
        lambda c: instead(c, "w2", 1, 1),
        ("AFTER", "node 'y' (Conv) does not run"),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_certificate_is_refused(name, tmp_path):
    make, spoil, told = WRONG[name]
    case = make()
    spoil(case)
    with pytest.raises(IntegrityError) as error:
        case.check(tmp_path)
    assert all(text in str(error.value) for text in told), str(error.value)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda said: said.update(format="other"), "no channel certificate"),
        (lambda said: said.update(version=2), "version 2"),
        (lambda said: said.pop("unread"), "unread"),
        (lambda said: said["removed"][0]["cells"][0].update({"is": "cut"}), "'cut'"),
        (lambda said: said["removed"][0]["cells"][0].update(value=1.0), "a zero of value 1.0"),
        (lambda said: said["removed"][0]["cells"][0].update(index=1.0), "no whole number"),
        (lambda said: said["removed"][0].update(axis=True), "no whole number"),
        (lambda said: said["removed"][0].update(kind="both"), "both"),
        (lambda said: said["removed"][0]["cells"].append(3), "not laid out"),
        (lambda said: said.update(removed={"a": 1}), "not laid out"),
        (lambda said: said["compensations"].append(taken("y", "r1", "luck", None)), "luck"),
        (lambda said: said["removed"][0]["cells"][0].update({"is": "multiple"}), "of"),
        (lambda said: said["removed"][0]["cells"][0].update({"is": "fixed"}), "axes"),
        (
            lambda said: said["removed"][0]["cells"][0].update(
                {"is": "fixed", "axes": [2, 3], "value": [["a"]]}
            ),
            "no array of numbers",
        ),
        (lambda said: said["constants"].append(kept("r1", i0="a")), "no number"),
        (lambda said: said["compensations"].append(taken("y", "r1", "merge", None)), "whole"),
    ],
)
def test_what_is_no_certificate_is_a_mistake_of_the_user(spoil, told, tmp_path):
    files = conv_relu_conv().write(tmp_path)
    said = json.loads(files[2].read_text())
    spoil(said)
    files[2].write_text(json.dumps(said))
    with pytest.raises(UserError, match="channels.json") as error:
        check_channels(*files)
    assert told in str(error.value)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_file_that_cannot_be_read_is_named(number, tmp_path):
    files = conv_relu_conv().write(tmp_path)
    files[number].write_bytes(b"\xff\x00 nothing")
    with pytest.raises(UserError, match=files[number].name):
        check_channels(*files)
    files[number].unlink()
    with pytest.raises(UserError, match=files[number].name):
        check_channels(*files)


def test_a_batch_size_that_is_written_into_the_graph_is_found(tmp_path):
    case = reshaped_by_shape()
    case.after = case.after.replace(
        "shape = Shape<end=2>(c)  wanted = Concat<axis=0>(shape, rest)", ""
    )
    case.after_weights = {**case.after_weights, "wanted": np.array([2, 3, -1])}
    with pytest.raises(IntegrityError, match=r"output 'y': differs .* for x \[3, 2, 3, 3\]"):
        case.check(tmp_path)


def test_nothing_removed_is_true_of_a_copy_and_of_no_other_model(tmp_path):
    case = residual()
    case.removed, case.after_weights = [], dict(case.before_weights)
    assert case.check(tmp_path).claims == 0
    case.after_weights["w3"] = 1.01 * case.before_weights["w3"]
    with pytest.raises(IntegrityError, match="'y' at"):
        case.check(tmp_path)


def test_dynamic_sizes_can_be_given(tmp_path):
    case = reshaped_by_shape()
    for name in ("before", "after"):
        text = getattr(case, name).replace("N,2,3,3", "N,2,side,side").replace("N,2,9", "N,2,area")
        setattr(case, name, text)
    assert case.check(tmp_path, sizes={"side": 5, "N": 1}).pieces
    with pytest.raises(UserError, match=r"--size: no size is called 'sides': did you mean 'side'"):
        case.check(tmp_path, sizes={"sides": 5})


def test_a_model_that_does_not_run_at_these_sizes_asks_for_others(tmp_path):
    case = conv_relu_conv("pads=[0,0,0,0]")
    for name in ("before", "after"):
        setattr(case, name, getattr(case, name).replace("N,2,8,8", "N,2,side,side"))
    assert case.check(tmp_path).pieces
    with pytest.raises(UserError, match="--size") as error:
        case.check(tmp_path, sizes={"side": 2})
    assert "[2, 2, 2, 2]" in str(error.value)


def test_another_seed_draws_other_numbers_and_finds_the_same(tmp_path):
    files = merged().write(tmp_path)
    first, same, other = (check_channels(*files, seed=seed) for seed in (0, 0, 1))
    assert first == same
    assert (other.claims, other.pieces) == (first.claims, first.pieces)
    assert other.worst_error != first.worst_error


def test_the_command_counts_what_it_derived_and_ends_with_5_for_a_lie(call, tmp_path):
    case = folded()
    files = case.write(tmp_path)
    said = call("verify-channels", *files, "--json", "--size", "N=1")
    assert (said.code, said.json["claims"]) == (0, 5)
    assert "pieces" in call("verify-channels", *files).out
    case.after_weights["b2"] += 1e-3
    said = call("verify-channels", *case.write(tmp_path), "--json")
    assert said.code == said.json["exit_code"] == 5
    assert "'y' at" in said.json["error"]


def test_it_shares_no_code_with_what_it_checks():
    room = Path(deploypipe.__file__).parent
    for file in room.glob("channel_*.py"):
        names = {
            name
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.ImportFrom | ast.Import)
            for name in [getattr(node, "module", None), *(alias.name for alias in node.names)]
            if name and name.startswith("deploypipe")
        }
        allowed = ("deploypipe.core.errors", "deploypipe.core.files", "deploypipe.channel_")
        assert all(name.startswith(allowed) for name in names), file
