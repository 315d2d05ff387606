"""A model with permuted channels: the same function, and a measure of rounding."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from deploypipe.graph.channels.groups import Group
from deploypipe.graph.channels.proof.evaluate import evaluate64
from deploypipe.graph.channels.proof.permutation import (
    _alike,
    as_deployed,
    permutation_noise,
    permuted,
)
from deploypipe.graph.channels.proof.real_weights import real_weights
from deploypipe.graph.files import to_bytes

NETS = {
    "plain": """c = Conv <pads = [1,1,1,1]> (x, w1, b1) r = Relu(c) y = Conv(r, w6)""",
    "depthwise": """c = Conv(x, p1) d = Conv <group = 6, pads = [1,1,1,1]> (c, dw) y = Conv(d, w12)""",
    "grouped": """c = Conv(x, p1) d = Conv <group = 2> (c, gw) e = Conv(d, p64) y = Conv(e, w6)""",
    "residual": """c = Conv(x, p1) d = Conv(c, p6) s = Add(c, d) y = Conv(s, w6)""",
    "concat": """c = Conv(x, p1) d = Conv(x, q4) s = Concat <axis = 1> (c, d) y = Conv(s, w10)""",
    "flatten": """c = Conv(x, p1) f = Flatten(c) m = Gemm(f, fc) k = Reshape(m, four) y = Identity(k)""",
}
SHAPES = {
    "w1": (6, 3, 3, 3),
    "b1": (6,),
    "p1": (6, 3, 1, 1),
    "p6": (6, 6, 1, 1),
    "q4": (4, 3, 1, 1),
    "dw": (12, 1, 3, 3),
    "gw": (4, 3, 1, 1),
    "p64": (6, 4, 1, 1),
    "w6": (2, 6, 1, 1),
    "w10": (2, 10, 1, 1),
    "w12": (2, 12, 1, 1),
    "fc": (6 * 25, 2 * 25),
}
X = {"x": np.random.default_rng(0).standard_normal((1, 3, 5, 5)).astype(np.float32)}


def model_of(parse, body: str, scale: float = 1.0):
    rng = np.random.default_rng(1)
    named = {name: rng.standard_normal(shape) * scale for name, shape in SHAPES.items()}
    used = {name: a.astype(np.float32) for name, a in named.items() if f"{name}" in words(body)}
    used |= {"four": np.array([1, 2, 5, 5])} if "four" in body else {}
    return parse(f"g (float[1,3,5,5] x) => (float[1,2,5,5] y) {{ {body} }}", **used)


def words(body: str) -> set[str]:
    return set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())


@pytest.mark.parametrize("name", NETS)
def test_permuted_channels_are_the_same_function(name, parse):
    model = model_of(parse, NETS[name])
    content = to_bytes(model)
    moved = set()
    for seed in range(3):
        other = permuted(model, seed)
        assert real_weights(evaluate64(model, X), other, X).ok
        moved |= {
            key
            for key, value in model.graph.initializers.items()
            if not np.array_equal(
                value.const_value.numpy(), other.graph.initializers[key].const_value.numpy()
            )
        }
    assert len(moved) >= 2
    assert to_bytes(model) == content


def test_only_channels_with_as_many_places_change_places():
    # Classes 0, 1 and 2 on an axis of three, then on one that holds class 1 twice.
    places = {"a": np.array([0, 1, 2]), "b": np.array([3, 4, 5, 6])}
    flow = SimpleNamespace(
        cells=SimpleNamespace(ids=places.__getitem__), classes=np.array([0, 1, 2, 0, 1, 1, 2])
    )
    kinds = _alike(flow, Group(("a", "b"), np.array([0, 1, 2])))
    assert sorted(kind.tolist() for kind in kinds) == [[0, 2], [1]]


def test_a_right_cut_is_within_the_noise(parse, run):
    whole = model_of(parse, NETS["plain"])
    arrays = {k: v.const_value.numpy().copy() for k, v in whole.graph.initializers.items()}
    arrays["w6"][:, 2:4] = 0
    text = f"g (float[1,3,5,5] x) => (float[1,2,5,5] y) {{ {NETS['plain']} }}"
    before = parse(text, **arrays)
    keep = [0, 1, 4, 5]
    cut = {"w1": arrays["w1"][keep], "b1": arrays["b1"][keep], "w6": arrays["w6"][:, keep]}
    finding = as_deployed(before, parse(text, **cut), run, X)
    assert finding.ok
    assert finding.limit < 1e-4
    wrong = {**cut, "b1": arrays["b1"][[0, 1, 5, 4]]}
    assert as_deployed(before, parse(text, **wrong), run, X).ok is False


def test_without_free_channels_only_a_few_roundings_are_allowed(parse, run):
    model = parse("g (float[1,3,5,5] x) => (float[1,3,5,5] y) { y = Mul(x, k) }", k=np.float32(3))
    assert permutation_noise(model, run, X) == 0
    assert as_deployed(model, model, run, X).limit == pytest.approx(16 * 2.0**-23)


def test_a_model_that_rounds_away_its_digits_proves_nothing(parse, run):
    # The sum of a million and a small number, from which the million is taken again.
    body = "c = Conv(x, p1) m = Mul(c, k) d = Conv(m, p6) q = Sin(d) y = Conv(q, w6)"
    arrays = {
        name: np.random.default_rng(1).standard_normal(SHAPES[name]).astype(np.float32)
        for name in ("p1", "p6", "w6")
    }
    text = f"g (float[1,3,5,5] x) => (float[1,2,5,5] y) {{ {body} }}"
    model = parse(text, k=np.float32(1e6), **arrays)
    finding = as_deployed(model, model, run, X)
    assert finding.ok is None
    assert "a permutation moves" in finding.why
