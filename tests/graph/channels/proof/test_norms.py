"""Normalizations against onnxruntime, and against their formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest

RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 5), (2, 6, 5, 4), (1, 6, 3, 4, 2)])
def test_batch_normalization_is_what_onnxruntime_gives(shape, same_as_onnxruntime):
    names = ("x", "scale", "bias", "mean", "var")
    arrays = [floats(*shape), floats(6), floats(6), floats(6), np.abs(floats(6))]
    same_as_onnxruntime(
        "BatchNormalization", dict(zip(names, arrays, strict=True)), opset=15, epsilon=0.01
    )


def test_an_old_batch_normalization_uses_the_statistics_given(same_as_onnxruntime):
    names = ("x", "scale", "bias", "mean", "var")
    arrays = [floats(2, 6, 3, 3), floats(6), floats(6), floats(6), np.abs(floats(6))]
    same_as_onnxruntime("BatchNormalization", dict(zip(names, arrays, strict=True)), opset=9)


def test_layer_normalization_is_what_onnxruntime_gives(same_as_onnxruntime):
    arrays = {"x": floats(2, 3, 8), "scale": floats(8), "bias": floats(8)}
    same_as_onnxruntime("LayerNormalization", arrays)


def test_instance_normalization_is_what_onnxruntime_gives(same_as_onnxruntime):
    arrays = {"x": floats(2, 3, 8, 4), "scale": floats(3), "bias": floats(3)}
    same_as_onnxruntime("InstanceNormalization", arrays)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_lrn_looks_at_the_nearest_channels(size, same_as_onnxruntime):
    x = floats(1, 7, 3, 4)
    same_as_onnxruntime("LRN", {"x": x}, size=size, alpha=0.3, beta=0.6, bias=1.5)


@pytest.mark.parametrize(("opset", "length"), [(18, 2), (21, 6)])
def test_group_normalization_is_made_in_double_precision(opset, length, alone):
    arrays = {"x": floats(2, 6, 5), "scale": floats(length), "bias": floats(length)}
    wide = {name: array.astype(np.float64) for name, array in arrays.items()}
    rows = wide["x"].reshape(2, 2, -1)
    rows = (rows - rows.mean(-1, keepdims=True)) / np.sqrt(rows.var(-1, keepdims=True) + 0.5)
    scale, bias = (np.repeat(wide[name], 6 // length)[:, None] for name in ("scale", "bias"))
    given = alone("GroupNormalization", arrays, opset=opset, num_groups=2, epsilon=0.5)
    np.testing.assert_allclose(given, rows.reshape(2, 6, 5) * scale + bias, rtol=1e-12)


def test_layer_normalization_is_made_in_double_precision(alone):
    arrays = {"x": floats(3, 8), "scale": floats(8), "bias": floats(8)}
    x = arrays["x"].astype(np.float64)
    rows = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 0.5)
    given = alone("LayerNormalization", arrays, epsilon=0.5)
    np.testing.assert_allclose(given, rows * arrays["scale"] + arrays["bias"], rtol=1e-12)
