from __future__ import annotations

import numpy as np
import pytest

from deploypipe.quantize.patches import grouped, ungrouped, window_of
from deploypipe.quantize.units import find_units

RNG = np.random.default_rng(5)
CASES = {
    "plain": ("Conv(x, w)", (6, 4, 3, 3)),
    "padded and strided": ("Conv<pads=[1,0,2,1],strides=[2,3]>(x, w)", (6, 4, 3, 3)),
    "dilated": ("Conv<dilations=[2,1]>(x, w)", (6, 4, 3, 2)),
    "groups": ("Conv<group=2>(x, w)", (6, 2, 3, 3)),
    "depthwise": ("Conv<group=4>(x, w)", (8, 1, 3, 3)),
}


@pytest.mark.parametrize(("body", "shape"), CASES.values(), ids=CASES)
def test_rows_times_weights_are_the_convolution(filled, cpu, target, body, shape) -> None:
    from deploypipe.graph.files import to_bytes

    model = filled(f"agraph (float[N,4,9,8] x) => (float t) {{ t = {body} }}", {"w": shape})
    (unit,), x = find_units(model, cpu).units, RNG.normal(size=(2, 4, 9, 8)).astype(np.float32)
    with target.open(to_bytes(model)) as session:
        expected = session({"x": x})["t"]
    window = window_of(model.graph[0], unit, shape)
    rows = window.rows(x, 10**6, 0)
    weight = model.graph.initializers["w"].const_value.numpy()
    results = rows @ grouped(weight, unit, window.groups).transpose(0, 2, 1)  # [groups, rows, out]
    given = np.concatenate(list(results), 1)
    np.testing.assert_allclose(given, np.moveaxis(expected, 1, -1).reshape(given.shape), atol=1e-4)
    assert np.array_equal(ungrouped(grouped(weight, unit, window.groups), unit, shape), weight)


def test_of_many_rows_some_are_taken_the_same_for_the_same_seed(filled, cpu) -> None:
    model = filled("agraph (float[N,7,4] x) => (float t) { t = MatMul(x, w) }", {"w": (4, 3)})
    (unit,), x = find_units(model, cpu).units, RNG.normal(size=(2, 7, 4)).astype(np.float32)
    window = window_of(model.graph[0], unit, (4, 3))
    some = window.rows(x, 5, 3)
    assert some.shape == (1, 5, 4)
    assert np.array_equal(some, window.rows(x, 5, 3))
    assert {row.tobytes() for row in some[0]} <= {row.tobytes() for row in x.reshape(-1, 4)}


def test_padding_that_depends_on_the_size_is_left(filled, cpu) -> None:
    text = 'agraph (float[N,4,9,8] x) => (float t) { t = Conv<auto_pad="SAME_UPPER">(x, w) }'
    model = filled(text, {"w": (6, 4, 3, 3)})
    assert window_of(model.graph[0], find_units(model, cpu).units[0], (6, 4, 3, 3)) is None
