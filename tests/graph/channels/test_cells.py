from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.graph.channels.cells import Cells, Tie, axis_size, cells_on, rank


def tensor(name: str, *sizes: int | str) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(sizes))


@pytest.fixture
def cells() -> tuple[Cells, ir.Value, ir.Value]:
    numbered, a, b = Cells(), tensor("a", "N", 3), tensor("b", 2, 3)
    for value in (a, b):
        numbered.add(value)
    return numbered, a, b


def test_only_static_axes_are_numbered(cells):
    numbered, a, b = cells
    assert list(numbered.first) == [(a, 1), (b, 0), (b, 1)] and numbered.count == 8
    assert numbered.ids((b, 1)).tolist() == [5, 6, 7]


def test_an_axis_that_is_dynamic_or_absent_has_no_size():
    assert axis_size(tensor("a", "N", 3), 0) is None and axis_size(tensor("a", 3), 1) is None
    assert axis_size(ir.Value(name="a"), 0) is None and rank(ir.Value(name="a")) is None


def test_axes_of_different_sizes_are_not_tied(cells):
    _, a, b = cells
    assert Tie.same((a, 1), (b, 0)) is None and Tie.same((a, 0), (b, 0)) is None


def test_a_class_is_called_after_its_first_cell(cells):
    numbered, a, b = cells
    numbered.tie(Tie((a, 1), (b, 1), np.array([2, 1]), np.array([0, 1])))
    numbered.tie(Tie((b, 0), (b, 1), np.array([1]), np.array([0])))
    assert numbered.classes().tolist() == [0, 1, 2, 3, 2, 2, 1, 7]


def test_a_long_chain_is_one_class():
    numbered = Cells()
    values = [tensor(str(i), 2) for i in range(300)]
    for value in values:
        numbered.add(value)
    for left, right in zip(values[::-1], values[-2::-1], strict=False):
        numbered.tie(Tie((left, 0), (right, 0), np.arange(2), np.arange(2)))
    assert numbered.classes().tolist() == [0, 1] * 300


def test_the_first_reason_for_a_pin_is_kept(cells):
    numbered, a, _ = cells
    numbered.pin((a, 1), "first")
    numbered.pin((a, 1), "second")
    numbered.pin((a, 0), "has no cells")
    assert numbered.pins == {(a, 1): "first"}
    assert cells_on(numbered, numbered.pins).tolist() == [True] * 3 + [False] * 5


def test_chosen_classes_are_told_per_axis(cells):
    numbered, a, b = cells
    numbered.tie(Tie((a, 1), (b, 1), np.arange(3), np.arange(3)))
    chosen = np.zeros(8, bool)
    chosen[1] = True
    found = numbered.where(numbered.classes(), chosen)
    assert {axis: index.tolist() for axis, index in found.items()} == {(a, 1): [1], (b, 1): [1]}
