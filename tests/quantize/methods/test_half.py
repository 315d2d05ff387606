from __future__ import annotations

import numpy as np
import pytest

from deploypipe.core.errors import UserError
from deploypipe.graph.files import to_bytes


@pytest.mark.parametrize(("dtype", "far"), [("float16", 1e-3), ("bfloat16", 1e-2)])
def test_half_the_bytes_and_the_runtime_folds_the_casts(by, images, noise, kernels, dtype, far):
    done = by("half", images, dtype=dtype)
    assert len(to_bytes(done.model)) < 0.56 * len(to_bytes(images))
    assert 0 < noise(images, done.model) < far
    assert kernels(done.model) == kernels(images)


def test_numbers_that_float16_cannot_hold_stay_float32(by, images):
    images.graph.initializers["w"].const_value.numpy()[0, 0, 0, 0] = 1e5
    done = by("half", images)
    assert done.refusals == ["'w' stays float32: it has numbers beyond what float16 holds"]
    assert by("half", images, dtype="bfloat16").refusals == []


def test_a_mask_may_be_infinite_and_a_weight_may_not(by, parse, constants, noise):
    text = """agraph (float[N,3,6,6] x) => (float[N,3,6,6] y) {
      m = MatMul(x, w) a = Add(m, mask) s = Softmax(a) y = MatMul(s, v) }"""
    rng = np.random.default_rng(0)
    mask = np.broadcast_to(np.triu(np.full((6, 6), -np.inf), 1), (3, 6, 6))
    model = constants(parse(text), w=rng.normal(size=(6, 6)), v=rng.normal(size=(6, 6)), mask=mask)
    done = by("half", model)
    assert done.changes == ["1 constants in float16, float32 again when loaded"]
    assert noise(model, done.model) == 0
    mask = np.where(np.isinf(mask), np.finfo(np.float32).min, 0)
    with pytest.raises(UserError, match="'mask': it has numbers beyond what float16 holds"):
        by("half", constants(parse(text), w=np.eye(6), v=np.eye(6), mask=mask))
    wide = np.full((6, 20), np.inf)
    with pytest.raises(UserError, match="'w' of MatMul .* holds a NaN or an infinity"):
        by("half", constants(parse(text), w=wide, v=np.eye(6), mask=mask))


def test_small_constants_and_outputs_are_left_alone(by, parse):
    text = """agraph (float[N,2] x) => (float[N,2] y) <float[2,2] w = {1.0, 2.0, 3.0, 4.0}>
      { [a] y = MatMul(x, w) }"""
    with pytest.raises(UserError, match="no weight can be stored in fewer bits"):
        by("half", parse(text))


def test_an_unknown_dtype_is_refused():
    from deploypipe.quantize.methods.half import Half

    with pytest.raises(ValueError, match="dtype must be float16 or bfloat16, got float8"):
        Half(dtype="float8")


def test_the_model_stays_as_it_is(by, images):
    before = to_bytes(images)
    by("half", images)
    assert to_bytes(images) == before
    assert images.graph.initializers["v"].const_value.numpy().dtype == np.float32
