from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.core.errors import UserError
from deploypipe.graph.files import to_bytes

MIDDLE = """agraph (float[N,3,6,6] x) => (float[N,7,2,2] y) {
  [a] t = Conv(x, u) [b] r = Conv(t, w) [c] y = Conv(r, v) }"""


@pytest.fixture
def convs(parse, constants) -> ir.Model:
    rng = np.random.default_rng(1)
    shapes = {"u": (33, 3, 3, 3), "w": (33, 33, 3, 3), "v": (7, 33, 1, 1)}
    return constants(parse(MIDDLE), **{n: rng.normal(size=s) for n, s in shapes.items()})


def test_a_weight_becomes_its_signs_times_the_mean_magnitude_of_its_channel(
    by, convs, noise, kernels
):
    done = by("binary", convs)
    assert done.changes == ["1 weights are signs, with a scale a channel"]
    assert kernels(done.model) == kernels(convs)
    expected = convs.clone()
    weight = expected.graph.initializers["w"].const_value.numpy()
    scale = np.abs(weight).mean((1, 2, 3), keepdims=True)
    expected.graph.initializers["w"].const_value = ir.tensor(
        np.where(weight >= 0, scale, -scale).astype(np.float32), name="w"
    )
    assert noise(expected, done.model) < 1e-6
    assert noise(convs, done.model) > 0.1


def test_a_bit_a_weight_is_stored(by, convs):
    """33 x 33 x 9 is no multiple of eight: the last byte is filled up."""
    whole = 33 * 33 * 9
    saved = len(to_bytes(convs)) - len(to_bytes(by("binary", convs).model))
    assert 4 * whole - whole / 8 - 1500 < saved < 4 * whole - whole / 8


def test_the_first_and_the_last_weight_stay_float_unless_told(by, images):
    done = by("binary", images, ends=True)
    assert done.changes == ["2 weights are signs, with a scale a channel"]  # the Gemm is too small
    with_ends = by("binary", images)
    assert with_ends.changes == ["1 weights are signs, with a scale a channel"]
    assert any("'first' stays float: it is the first or the last" in s for s in with_ends.refusals)


def test_nothing_but_ends_is_told(by, transformer):
    with pytest.raises(UserError, match="no weight can be stored in fewer bits.* Why: 'up'"):
        by("binary", transformer, embeddings=False)
