from __future__ import annotations

import math

import pytest

from deploypipe.quantize.conversions import Conversions, Line
from deploypipe.quantize.costs import costs_of
from deploypipe.quantize.kernels import Kernel
from deploypipe.quantize.units import find_units

CONVERSIONS = Conversions(Line(1, 0.1), Line(2, 0.1), Line(0, 0.5))


def kernel(microseconds: float, *nodes: int) -> Kernel:
    return Kernel("any", microseconds, frozenset(nodes))


@pytest.fixture
def costs(conv_net, cpu):
    def build(in_float, in_int, fused=("conv", "pool", "flat", "head")):
        units = find_units(conv_net, cpu).units
        sizes = {"x": 40, "r": 80, "p": 2, "f": 2}
        return costs_of(conv_net, units, in_float, in_int, fused, sizes, CONVERSIONS)

    return build


def test_a_fused_kernel_is_paid_by_the_unit_with_weights(costs) -> None:
    found = costs([kernel(9, 0, 1, 2), kernel(4, 4)], [kernel(3, 0, 1), kernel(2, 2)])
    assert found.in_float == {"conv": 9, "pool": 0, "flat": 0, "head": 4}
    assert found.in_int == {"conv": 3, "pool": 2, "flat": 0, "head": 0}


def test_what_did_not_fuse_cannot_run_in_8_bits(costs) -> None:
    found = costs([], [], fused=("conv",))
    assert found.in_int["pool"] == math.inf
    assert found.fused == {"conv"}
    assert found.cheapest() <= {"conv"}


def test_tensors_between_units_cost_by_their_elements(costs) -> None:
    by_maker = {one.maker: one for one in costs([], []).crossings}
    assert by_maker[None].readers == ("conv",)
    assert by_maker[None].quantize == pytest.approx(1 + 4 + 20)  # an image is transposed too
    assert by_maker["conv"].dequantize == pytest.approx(2 + 8 + 40)
    assert by_maker["head"].readers == (None,)  # the model's output
    assert by_maker["head"].dequantize == 0  # a Gemm gives floats by itself
    assert by_maker["flat"].quantize == pytest.approx(1.2)


def test_dear_borders_leave_more_in_float(costs) -> None:
    found = costs([kernel(90, 0), kernel(10, 4)], [kernel(40, 0), kernel(1, 4)])
    assert "conv" in found.cheapest(0.5)
    assert "conv" not in found.cheapest(4)


def test_a_linear_node_takes_the_fastest_form_that_is_clearly_faster(conv_net, cpu):
    units = find_units(conv_net, cpu).units
    given = [kernel(90, 0), kernel(10, 4)], [kernel(40, 0), kernel(7, 4)]

    def forms(**times: float):
        kernels = {form: [kernel(90, 0), kernel(time, 4)] for form, time in times.items()}
        fused = ("conv", "head")
        return costs_of(conv_net, units, *given, fused, {}, CONVERSIONS, kernels)

    assert forms(dynamic=4, blocks=5).forms == {"head": "dynamic"}
    assert forms(dynamic=6, blocks=5).forms == {"head": "blocks"}
    assert forms(dynamic=9.5, blocks=11).forms == {}
    assert forms(dynamic=0).forms == {}  # nothing was measured
    found = forms(dynamic=1)
    assert "head" in found.cheapest(0.0)
    assert "head" not in found.cheapest(0.0, forms=True)
    assert found.in_float["head"] == 10
