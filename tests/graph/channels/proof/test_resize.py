"""Resize against onnxruntime; scales of two and a half, so that float32 places are exact."""

from __future__ import annotations

import numpy as np
import pytest

COORDINATES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
X = np.random.default_rng(0).standard_normal((1, 2, 6, 4)).astype(np.float32)


@pytest.mark.parametrize("coordinates", [*COORDINATES, "half_pixel_symmetric"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize_is_what_onnxruntime_gives(mode, coordinates, same_as_onnxruntime):
    for scales in ([1, 1, 2, 2], [1, 1, 0.5, 4], [1, 1, 1, 2.5]):
        arrays = {"x": X, "roi": None, "scales": np.array(scales, np.float32)}
        same_as_onnxruntime("Resize", arrays, mode=mode, coordinate_transformation_mode=coordinates)


@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_the_nearest_place_is_chosen_as_asked(nearest, same_as_onnxruntime):
    arrays = {"x": X, "roi": None, "scales": np.array([1, 1, 0.5, 2], np.float32)}
    for coordinates in COORDINATES:
        same_as_onnxruntime(
            "Resize",
            arrays,
            mode="nearest",
            nearest_mode=nearest,
            coordinate_transformation_mode=coordinates,
        )


def test_sizes_may_be_given_instead_of_scales(same_as_onnxruntime):
    arrays = {"x": X, "roi": None, "scales": None, "sizes": np.array([9, 8], np.int64)}
    same_as_onnxruntime("Resize", arrays, mode="linear", axes=[2, 3])
