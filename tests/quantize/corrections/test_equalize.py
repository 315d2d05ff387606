from __future__ import annotations

import numpy as np
import pytest

from deploypipe.quantize.corrections.equalize import Equalize
from deploypipe.quantize.signal import outputs_of, sqnr_db
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


@pytest.fixture
def net(filled):
    """The channels of the first layer differ by up to a thousand times."""

    def build(text: str = NET, **more: tuple[int, ...]):
        shapes = {k: s for k, s in {**SHAPES, **more}.items() if f"{k})" in text or f"{k}," in text}
        model = filled(text, shapes)
        scale = np.exp(RNG.normal(size=16) * 1.5).astype(np.float32)
        for name in {"w", "b"} & shapes.keys():
            value = model.graph.initializers[name]
            array = value.const_value.numpy()
            array = array * scale.reshape(-1, *[1] * (array.ndim - 1))
            value.const_value = type(value.const_value)(array, name=name)
        return model

    return build


def test_channels_become_alike_and_outputs_come_nearer(net, draft, target) -> None:
    start = draft(net(), X)
    found = Equalize().propose(start)
    samples = [{"x": x[None]} for x in X]
    models = [start.shop.model, start.made.model, found.made.model, found.shop.model]
    expected, before, after, equal = outputs_of(models, samples, target)
    assert sqnr_db(expected, after) > sqnr_db(expected, before) + 1
    assert sqnr_db(expected, equal) > 100  # it is the same function


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
def test_through_nothing_else(net, cpu, old, new) -> None:
    model = net(NET.replace(old, new), zero=(), six=())
    if "Clip" in new:
        for name, value in (("zero", 0), ("six", 6)):
            tensor = type(model.graph.initializers[name].const_value)
            model.graph.initializers[name].const_value = tensor(np.float32(value), name=name)
    sites = layer_sites(model, find_units(model, cpu).units)
    assert len(sites) == 2


def test_groups_take_their_own_channels(net, draft, target) -> None:
    model = net(NET.replace("Conv(s, p)", "Conv<group=2>(s, p)"), p=(12, 8, 1, 1))
    start = draft(model, X)
    found = Equalize().propose(start)
    samples = [{"x": x[None]} for x in X[:4]]
    expected, equal = outputs_of([model, found.shop.model], samples, target)
    assert sqnr_db(expected, equal) > 100


def test_several_readers_are_scaled_alike(net, draft, target) -> None:
    text = """agraph (float[N,3,8,8] x) => (float y, float z) {
      t = Conv(x, w, b) r = Relu(t) e = Conv(r, p) f = Conv(r, q) y = Erf(e) z = Erf(f) }"""
    start = draft(net(text, q=(4, 16, 1, 1)), X)
    found = Equalize().propose(start)
    samples = [{"x": x[None]} for x in X[:4]]
    expected, equal = outputs_of([start.shop.model, found.shop.model], samples, target)
    assert sqnr_db(expected, equal) > 100


def test_linear_layers_with_a_relu_between_them(filled, draft, target) -> None:
    text = """agraph (float[N,12] x) => (float[N,4] y) {
      t = MatMul(x, w) u = Add(t, b) r = Relu(u) y = Gemm<transB=1>(r, v, c) }"""
    model = filled(text, {"w": (12, 10), "b": (10,), "v": (4, 10), "c": (4,)})
    value = model.graph.initializers["w"]
    array = value.const_value.numpy() * np.exp(RNG.normal(size=10) * 2).astype(np.float32)
    value.const_value = type(value.const_value)(array, name="w")
    x = RNG.normal(size=(20, 12)).astype(np.float32)
    found = Equalize().propose(draft(model, x))
    expected, equal = outputs_of([model, found.shop.model], [{"x": x}], target)
    assert sqnr_db(expected, equal) > 100
