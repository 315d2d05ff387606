"""Pools of every shape against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_a_pool_of_any_shape_is_what_onnxruntime_gives(op, rank, same_as_onnxruntime):
    rng = np.random.default_rng(rank)
    for _ in range(60):
        kernel = rng.integers(1, 4, rank)
        options = {"kernel_shape": kernel.tolist(), "strides": rng.integers(1, 4, rank).tolist()}
        if rng.random() < 0.3:
            options["auto_pad"] = str(rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))
            # With windows that leave gaps, onnxruntime's SAME begins inside the image.
            options["strides"] = np.minimum(options["strides"], kernel).tolist()
        else:
            before, after = (rng.integers(0, kernel // 2 + 1) for _ in range(2))
            options |= {"pads": [*before.tolist(), *after.tolist()]}
            options["ceil_mode"] = int(rng.integers(2))
            options["dilations"] = rng.integers(1, 3, rank).tolist()
        if op == "AveragePool":
            options["count_include_pad"] = int(rng.integers(2))
        x = rng.standard_normal((2, 3, *rng.integers(6, 11, rank))).astype(np.float32)
        same_as_onnxruntime(op, {"x": x}, **options)


def test_with_ceil_no_window_begins_behind_the_image(same_as_onnxruntime):
    x = np.arange(25, dtype=np.float32).reshape(1, 1, 5, 5)
    for op in ("MaxPool", "AveragePool"):
        same_as_onnxruntime(
            op, {"x": x}, kernel_shape=[2, 2], strides=[3, 3], pads=[1, 1, 1, 1], ceil_mode=1
        )


def test_the_largest_of_negative_numbers_is_not_the_pad(alone):
    x = np.full((1, 1, 2, 2), -3, np.float32)
    assert (alone("MaxPool", {"x": x}, kernel_shape=[3, 3], pads=[1, 1, 1, 1]) == -3).all()


def test_bytes_are_pooled_as_bytes(same_as_onnxruntime):
    x = np.random.default_rng(0).integers(-128, 128, (1, 2, 5, 5)).astype(np.int8)
    same_as_onnxruntime("MaxPool", {"x": x}, kernel_shape=[2, 2], pads=[1, 0, 0, 1])
