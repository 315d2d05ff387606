from __future__ import annotations

import numpy as np
import pytest

from deploypipe.quantize.histogram import Range
from deploypipe.quantize.params import (
    QParams,
    activation_params,
    bias_scales,
    quantized_bias,
    quantized_weight,
    weight_params,
)


def f32(value: float) -> float:
    return float(np.float32(value))


@pytest.mark.parametrize(
    ("chosen", "params"),
    [
        (Range(0, 25.5), QParams(f32(0.1), 0)),
        (Range(-5.1, 20.4), QParams(f32(0.1), 51)),
        (Range(-25.5, 0), QParams(f32(0.1), 255)),
        (Range(10, 25.5), QParams(f32(0.1), 0)),
        (Range(-25.5, -10), QParams(f32(0.1), 255)),
    ],
)
def test_scale_and_zero_point_by_hand(chosen: Range, params: QParams) -> None:
    assert activation_params(chosen) == params


def test_a_relu_starts_at_exactly_zero_whatever_was_observed() -> None:
    assert activation_params(Range(-7, 25.5), low=0.0) == QParams(f32(0.1), 0)


def test_a_clip_ends_the_range() -> None:
    assert activation_params(Range(0, 9), 0.0, 6.0) == QParams(f32(6 / 255), 0)


def test_a_tensor_that_is_always_zero_gets_a_safe_scale() -> None:
    assert activation_params(Range(0, 0)) == QParams(f32(1 / 255), 0)
    assert activation_params(Range(0, 0), 0.0, 0.5) == QParams(f32(0.5 / 255), 0)


@pytest.mark.parametrize("value", [5.0, -5.0, 1e-44, 3e38, -3e38])
def test_a_constant_tensor_gets_a_finite_normal_scale(value: float) -> None:
    params = activation_params(Range(value, value))
    assert np.finfo(np.float32).tiny < params.scale < np.inf
    assert params.zero_point in (0, 255)


def test_each_output_channel_has_its_own_symmetric_scale() -> None:
    weight = np.float32([[1.27, -0.5], [0.1, -2.54]])
    assert weight_params(weight, 0, 127).scales == (f32(0.01), f32(0.02))
    assert weight_params(weight, 1, 127).scales == (f32(0.01), f32(0.02))
    params = weight_params(weight, 0, 127)
    assert quantized_weight(weight, params).tolist() == [[127, -50], [5, -127]]


def test_seven_bits_stay_within_63() -> None:
    weight = np.float32([[0.63, -0.63, 0.01]])
    assert quantized_weight(weight, weight_params(weight, 0, 63)).tolist() == [[63, -63, 1]]


def test_a_dead_channel_takes_the_median_scale_of_the_others() -> None:
    weight = np.float32([[1.27], [0.0], [3.81], [2.54]])
    params = weight_params(weight, 0, 127)
    assert params.scales[1] == f32(0.02)
    assert quantized_weight(weight, params)[1].tolist() == [0]


def test_a_weight_of_zeros_only_is_quantized_to_zeros() -> None:
    weight = np.zeros((2, 3), np.float32)
    params = weight_params(weight, 0, 127)
    assert params.scales == (1.0, 1.0)
    assert not quantized_weight(weight, params).any()


def test_a_bias_that_would_overflow_int32_raises_the_scale() -> None:
    weight, bias = np.float32([[1e-12], [1.0]]), np.float32([4.0, 4.0])
    params = weight_params(weight, 0, 127, bias, input_scale=0.5)
    integers = quantized_bias(bias, bias_scales(params, 0.5))
    assert params.scales[1] == f32(1 / 127)
    assert 2**29 < integers[0] <= 2**30
    assert integers[0] * params.scales[0] * 0.5 == pytest.approx(4.0)


def test_a_bias_is_counted_in_products_of_both_scales() -> None:
    params = weight_params(np.float32([[1.27], [2.54]]), 0, 127)
    scales = bias_scales(params, 0.5)
    assert np.allclose(scales, [0.005, 0.01])
    assert quantized_bias(np.float32([0.05, -1.0]), scales).tolist() == [10, -100]
