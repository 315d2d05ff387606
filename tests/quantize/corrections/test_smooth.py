from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.constants import constant_of
from deploypipe.quantize.corrections.smooth import Smooth
from deploypipe.quantize.sites import norm_sites

RNG = np.random.default_rng(6)
SHAPES = {"g": (16,), "b": (16,), "q": (16, 24), "k": (16, 8), "c": (24,), "v": (32, 16)}
NET = """agraph (float[N,5,16] x) => (float[N,5,24] y, float[N,5,8] z) {
  n = LayerNormalization(x, g, b) m = MatMul(n, q) y = Add(m, c) z = MatMul(n, k) }"""
RESIDUAL = """agraph (float[N,5,16] x) => (float[N,5,16] y) {
  n = LayerNormalization(x, g, b) m = MatMul(n, w) y = Add(m, n) }"""
X = RNG.normal(size=(40, 5, 16)).astype(np.float32)


@pytest.fixture
def net(filled, constants):
    """Two channels of the normalisation are a hundred times wider than the others."""

    def build(text: str = NET, **more: tuple[int, ...]):
        model = filled(text, {**SHAPES, **more})
        wide = np.where(np.isin(np.arange(16), [3, 7]), 100, 1)
        return constants(model, g=constant_of(model.graph.initializers["g"]) * wide)

    return build


def test_wide_channels_move_into_the_weights(net, draft, nearness) -> None:
    start = draft(net(), X)
    before, after, smooth = nearness(start, Smooth().propose(start), X)
    assert after > before + 6
    assert smooth > 100  # it is the same function


def test_the_mean_that_was_observed_is_scaled_too(net, draft, target) -> None:
    start = draft(net(), X)
    found = Smooth().propose(start)
    again = draft(found.shop.model, X)
    mean = next(one for one in again.shop.seen.means if one.tensor == "n")
    np.testing.assert_allclose(
        found.shop.seen.means[mean], again.shop.seen.means[mean], rtol=1e-3, atol=1e-4
    )


def test_a_constant_that_is_a_list_of_numbers_is_scaled_too(filled, draft, nearness) -> None:
    wide = ", ".join("100.0" if i in (3, 7) else "1.0" for i in range(16))
    text = NET.replace("n = ", f"g = Constant<value_floats = [{wide}]>() n = ")
    start = draft(filled(text, {n: s for n, s in SHAPES.items() if n != "g"}), X)
    before, after, smooth = nearness(start, Smooth().propose(start), X)
    assert after > before + 6 and smooth > 100


def test_the_users_model_stays(net, draft) -> None:
    model = net()
    before = {name: v.const_value.numpy().copy() for name, v in model.graph.initializers.items()}
    Smooth().propose(draft(model, X))
    for name, value in model.graph.initializers.items():
        assert np.array_equal(value.const_value.numpy(), before[name])


@pytest.mark.parametrize(
    "text",
    [
        RESIDUAL,  # somebody else reads the normalisation
        RESIDUAL.replace("(m, n)", "(m, x)").replace("y)", "y, float[N,5,16] n)", 1),
        RESIDUAL.replace("(m, n)", "(m, w2)").replace("(x, g, b)", "(x, g, g)"),
        RESIDUAL.replace("(m, n)", "(m, w2)").replace("Normalization(", "Normalization<axis=1>("),
    ],
    ids=["residual", "output", "one constant twice", "another axis"],
)
def test_where_it_would_change_the_function_there_is_no_site(net, cpu, text) -> None:
    from deploypipe.quantize.units import find_units

    model = net(text, w=(16, 16), w2=(16,))
    assert norm_sites(model, find_units(model, cpu).units) == []


def test_a_weight_that_two_layers_share_stays(net, cpu) -> None:
    from deploypipe.quantize.units import find_units

    model = net(NET.replace("MatMul(n, k)", "MatMul(n, q)"))
    assert norm_sites(model, find_units(model, cpu).units) == []


def test_even_channels_are_left_alone(filled, constants, draft) -> None:
    signs = {name: RNG.choice([-1.0, 1.0], size=SHAPES[name]) for name in "qk"}
    model = constants(filled(NET, SHAPES), g=np.ones(16), b=np.zeros(16), **signs)
    balanced = RNG.permuted(np.tile(np.float32([-1, 1]), (40, 5, 8)), axis=2)
    start = draft(model, balanced)
    assert Smooth().propose(start) is None


def test_alpha_is_a_share() -> None:
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\], got 2"):
        Smooth(alpha=2)
