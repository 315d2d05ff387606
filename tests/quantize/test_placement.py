from __future__ import annotations

import pytest

from deploypipe.quantize.placement import Placement, place
from deploypipe.quantize.units import find_units

W = """<float[2,2,1,1] w = {1.0, 2.0, 3.0, 4.0}, float[2,2] m = {1.0, 2.0, 3.0, 4.0},
  int64[2] s = {-1, 2}>"""


@pytest.fixture
def placed(parse, cpu):
    def run(body: str, inputs: str = "float[N,2,3,3] x", outputs: str = "float y", **asked: str):
        model = parse(f"agraph ({inputs}) => ({outputs}) {W} {{ {body} }}")
        return place(model, find_units(model, cpu), asked)

    return run


def names(placement: Placement) -> list[str]:
    return [unit.name for unit in placement.units]


def test_a_conv_that_gives_the_models_output_stays_float(placed) -> None:
    placement = placed("[a] t = Conv(x, w) [b] y = Conv(t, w)")
    assert names(placement) == ["a"]
    assert placement.kept_float["b"] == "its output is the model's output, which stays float"


def test_a_last_gemm_is_quantized_without_rounding_its_output(placed) -> None:
    placement = placed("[a] y = Gemm(x, m)", "float[N,2] x")
    assert names(placement) == ["a"]
    assert dict(placement.roots) == {"x": "x"}


def test_a_gemm_that_is_both_output_and_food_stays_float(placed) -> None:
    placement = placed("[a] y = Gemm(x, m) [b] z = Gemm(y, m)", "float[N,2] x", "float y, float z")
    assert names(placement) == ["b"]
    assert "feeds 8-bit nodes too" in placement.kept_float["a"]


def test_a_residual_sum_follows_its_convs(placed) -> None:
    body = "[a] t = Conv(x, w) [s] u = Add(t, x) [r] v = Relu(u) [soft] y = Softmax(v)"
    assert names(placed(body)) == ["a", "s"]


def test_a_sum_of_floats_is_left_alone(placed) -> None:
    body = "t = Sigmoid(x) u = Tanh(x) [s] v = Add(t, u) [g] y = MatMul(v, m)"
    placement = placed(body, "float[N,2] x")
    assert names(placement) == ["g"]
    assert placement.kept_float["s"] == "its input 't' is computed in float"


def test_a_sum_of_8_bits_and_float_follows_where_a_conv_reads_it(placed) -> None:
    body = "[a] t = Conv(x, w) u = Tanh(x) [s] v = Add(t, u) [b] z = Conv(v, w) y = Erf({})"
    assert names(placed(body.format("z"))) == ["a", "s", "b"]


def test_a_sum_of_8_bits_and_float_that_floats_read_is_left_alone(placed) -> None:
    body = "[a] t = Conv(x, w) u = Tanh(x) [s] v = Add(t, u) y = Erf(v)"
    assert names(placed(body)) == ["a"]


def test_dropping_one_unit_drops_what_leans_on_it(placed) -> None:
    body = "[a] t = Conv(x, w) [p] u = GlobalAveragePool(t) [f] v = Flatten(u) y = Softmax(v)"
    placement = placed(body, a="the user asked")
    assert names(placement) == []
    assert placement.kept_float["a"] == "the user asked"
    assert placement.kept_float["p"] == "its input 't' is computed in float"
    assert "f" not in placement.kept_float  # a Flatten among floats is no loss


def test_a_reshape_of_the_input_stays_float(placed) -> None:
    placement = placed("[r] t = Reshape(x, s) [g] y = Gemm(t, m)")
    assert names(placement) == ["g"]


def test_what_only_moves_bytes_shares_parameters_with_its_source(placed) -> None:
    body = "t = Conv(x, w) u = MaxPool<kernel_shape=[2,2]>(t) v = Flatten(u) y = Softmax(v)"
    assert dict(placed(body).roots) == {"x": "x", "t": "t", "u": "t", "v": "t"}
