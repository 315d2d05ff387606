from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.constants import constant_of
from deploypipe.quantize.corrections.equalize import Equalize
from deploypipe.quantize.sites import layer_sites
from deploypipe.quantize.units import find_units

RNG = np.random.default_rng(6)
SHAPES = {
    "w": (16, 3, 3, 3),
    "b": (16,),
    "d": (16, 1, 3, 3),
    "p": (12, 16, 1, 1),
    "v": (5, 12),
    "c": (5,),
}
NET = """agraph (float[N,3,8,8] x) => (float[N,5] y) {
  t = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(t) e = Conv<group=16>(r, d) s = Relu(e)
  f = Conv(s, p) g = GlobalAveragePool(f) h = Flatten(g) y = Gemm<transB=1>(h, v, c) }"""
X = RNG.normal(size=(40, 3, 8, 8)).astype(np.float32)
SAME = 100
"""dB of two models that are the same function."""


@pytest.fixture
def net(filled, constants):
    """The channels of the first layer differ by up to a thousand times."""

    def build(text: str = NET, **more: tuple[int, ...]):
        model = filled(text, {**SHAPES, **more})
        scale = np.exp(RNG.normal(size=16) * 1.5).astype(np.float32)
        weight, bias = (constant_of(model.graph.initializers[name]) for name in "wb")
        return constants(model, w=weight * scale[:, None, None, None], b=bias * scale)

    return build


def test_channels_become_alike_and_outputs_come_nearer(net, draft, nearness) -> None:
    start = draft(net(), X)
    before, after, equal = nearness(start, Equalize().propose(start), X)
    assert after > before + 1
    assert equal > SAME


def test_sites_go_through_relu_and_pooling(net, cpu) -> None:
    model = net()
    sites = layer_sites(model, find_units(model, cpu).units)
    assert [(site.tensor, [unit.result for unit in site.readers]) for site in sites] == [
        ("r", ["e"]),
        ("s", ["f"]),
        ("f", ["y"]),
    ]
    assert sites[2].tensors == ("f", "g", "h")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("r = Relu(t)", "r = Clip(t, zero, six)"),
        ("r = Relu(t)", "r = Sigmoid(t)"),
        ("s = Relu(e)", "i = Relu(e) s = Add(i, i)"),
        ("float[N,5] y", "float[N,5] y, float r"),
    ],
)
def test_through_nothing_else(net, constants, cpu, old, new) -> None:
    model = net(NET.replace(old, new))
    if "Clip" in new:
        constants(model, zero=0, six=6)
    sites = layer_sites(model, find_units(model, cpu).units)
    assert len(sites) == 2


def test_groups_take_their_own_channels(net, draft, nearness) -> None:
    start = draft(net(NET.replace("Conv(s, p)", "Conv<group=2>(s, p)"), p=(12, 8, 1, 1)), X)
    assert nearness(start, Equalize().propose(start), X[:4])[-1] > SAME


def test_several_readers_are_scaled_alike(net, draft, nearness) -> None:
    text = """agraph (float[N,3,8,8] x) => (float y, float z) {
      t = Conv(x, w, b) r = Relu(t) e = Conv(r, p) f = Conv(r, q) y = Erf(e) z = Erf(f) }"""
    start = draft(net(text, q=(4, 16, 1, 1)), X)
    assert nearness(start, Equalize().propose(start), X[:4])[-1] > SAME


def test_linear_layers_with_a_relu_between_them(filled, constants, draft, nearness) -> None:
    text = """agraph (float[N,12] x) => (float[N,4] y) {
      t = MatMul(x, w) u = Add(t, b) r = Relu(u) y = Gemm<transB=1>(r, v, c) }"""
    model = filled(text, {"w": (12, 10), "b": (10,), "v": (4, 10), "c": (4,)})
    weight = constant_of(model.graph.initializers["w"])
    constants(model, w=weight * np.exp(RNG.normal(size=10) * 2))
    x = RNG.normal(size=(20, 12)).astype(np.float32)
    start = draft(model, x)
    assert nearness(start, Equalize().propose(start), x)[-1] > SAME
