"""Convolutions of every shape against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.reference.ops.op_conv import Conv as ReferenceConv

from deploypipe.graph.channels.proof import convolution

GROUPS = [(1, 3, 4), (2, 4, 6), (3, 3, 6), (4, 4, 4), (2, 6, 2)]
"""(groups, channels in, channels out)."""


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def padding(rng: np.random.Generator, rank: int, highest: int) -> dict[str, object]:
    """Explicit pads, an auto_pad, or nothing."""
    kind = rng.integers(5)
    if kind < 3:
        names = ["SAME_UPPER", "SAME_LOWER", "VALID"]
        return {"auto_pad": names[kind]}
    return {"pads": rng.integers(0, highest + 1, 2 * rank).tolist()} if kind == 3 else {}


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_convolution_of_any_shape_is_what_onnxruntime_gives(rank, same_as_onnxruntime):
    rng = np.random.default_rng(rank)
    for _ in range(50):
        groups, channels, outputs = GROUPS[rng.integers(len(GROUPS))]
        kernel = rng.integers(1, 4, rank)
        pads = padding(rng, rank, 2)
        # onnxruntime takes no dilations beside SAME.
        dilations = [1] * rank if "SAME" in str(pads) else rng.integers(1, 3, rank).tolist()
        arrays = {
            "x": floats(rng, int(rng.integers(1, 3)), channels, *rng.integers(5, 9, rank)),
            "w": floats(rng, outputs, channels // groups, *kernel),
            "b": floats(rng, outputs) if rng.random() < 0.5 else None,
        }
        strides = rng.integers(1, 4, rank).tolist()
        same_as_onnxruntime(
            "Conv", arrays, group=groups, strides=strides, dilations=dilations, **pads
        )


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_transposed_convolution_is_what_onnxruntime_gives(rank, same_as_onnxruntime):
    rng = np.random.default_rng(rank)
    for _ in range(25):
        groups, channels, outputs = GROUPS[rng.integers(len(GROUPS))]
        strides = rng.integers(1, 4, rank)
        # Kernels at least as large as the stride: else SAME would have to pad the output.
        arrays = {
            "x": floats(rng, 2, channels, *rng.integers(3, 7, rank)),
            "w": floats(rng, channels, outputs // groups, *(strides + rng.integers(0, 3, rank))),
            "b": floats(rng, outputs) if rng.random() < 0.5 else None,
        }
        extra = {"output_padding": [int(rng.integers(0, s)) for s in strides]}
        pads = padding(rng, rank, 0) if rng.random() < 0.5 else {**padding(rng, rank, 1), **extra}
        if "SAME" in str(pads):
            pads.pop("output_padding", None)
        same_as_onnxruntime("ConvTranspose", arrays, group=groups, strides=strides.tolist(), **pads)


def test_a_transposed_convolution_can_ask_for_its_output_shape(same_as_onnxruntime):
    rng = np.random.default_rng(0)
    arrays = {"x": floats(rng, 1, 3, 4, 5), "w": floats(rng, 3, 2, 3, 4)}
    for auto_pad in ("NOTSET", "SAME_UPPER", "SAME_LOWER"):
        same_as_onnxruntime(
            "ConvTranspose", arrays, strides=[2, 2], output_shape=[8, 11], auto_pad=auto_pad
        )


def test_tiles_of_a_few_rows_give_the_same_numbers(alone, monkeypatch):
    rng = np.random.default_rng(1)
    arrays = {"x": floats(rng, 2, 6, 13, 9), "w": floats(rng, 4, 3, 3, 2), "b": floats(rng, 4)}
    options = {"group": 2, "strides": [2, 1], "pads": [1, 0, 2, 1]}
    whole = alone("Conv", arrays, **options)
    for tile in (1, 200, 500):
        monkeypatch.setattr(convolution, "TILE", tile)
        np.testing.assert_allclose(alone("Conv", arrays, **options), whole, rtol=1e-13, atol=1e-14)


def test_the_sums_are_made_in_double_precision(alone):
    rng = np.random.default_rng(2)
    x, w = floats(rng, 1, 5, 8, 8), floats(rng, 3, 5, 3, 3)
    expected = ReferenceConv.eval(x.astype(float), w.astype(float), pads=[1, 1, 1, 1])
    given = alone("Conv", {"x": x, "w": w}, pads=[1, 1, 1, 1])
    np.testing.assert_allclose(given, expected, rtol=1e-12, atol=1e-13)


def test_the_input_is_left_alone(alone):
    x = np.ones((1, 2, 4, 4))
    alone("Conv", {"x": x, "w": np.ones((3, 2, 1, 1)), "b": np.ones(3)})
    assert (x == 1).all()
