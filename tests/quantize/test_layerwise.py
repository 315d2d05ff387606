"""Rounding layer by layer, whoever chooses the integers."""

from __future__ import annotations

import numpy as np
import pytest

from deploypipe.quantize import PROFILES
from deploypipe.quantize.corrections.adaround import Adaround
from deploypipe.quantize.corrections.gptq import Gptq
from deploypipe.quantize.layerwise import Task
from deploypipe.quantize.signal import outputs_of, sqnr_db

RNG = np.random.default_rng(2)
SOLVERS = {"gptq": Gptq(), "adaround": Adaround(steps=300)}
NET = """agraph (float[N,4,8,8] x) => (float[N,5] y) {
  t = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(t) e = Conv<group=8,strides=[2,2]>(r, d) s = Relu(e)
  g = GlobalAveragePool(s) h = Flatten(g) m = MatMul(h, v) y = Add(m, c) }"""
SHAPES = {"w": (8, 4, 3, 3), "b": (8,), "d": (8, 1, 3, 3), "v": (8, 5), "c": (5,)}
FIELD = RNG.normal(size=(40, 1, 8, 8))
IMAGES = (FIELD + 0.3 * RNG.normal(size=(40, 4, 8, 8))).astype(np.float32)


def loss(task: Task, integers: np.ndarray) -> float:
    error = integers * task.scales - task.weight
    return float(np.einsum("gok,gkl,gol->", error, task.products, error))


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_the_results_error_is_much_smaller_than_with_rounding_to_nearest(solver, task) -> None:
    found = solver.solve(task)
    assert loss(task, found) < 0.6 * loss(task, task.nearest())
    assert np.array_equal(found, np.rint(found)) and np.abs(found).max() <= 7


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_inputs_that_are_always_zero_are_no_trouble(solver) -> None:
    zeros = np.zeros((2, 6, 6))
    weight = RNG.normal(size=(2, 3, 6))
    task = Task(weight, np.full((2, 3, 1), 0.1), 127, zeros)
    assert np.abs(solver.solve(task) - weight / 0.1).max() <= 1


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_a_model_of_four_bit_weights_comes_nearer(solver, filled, draft, target) -> None:
    model = filled(NET, SHAPES)
    start = draft(model, IMAGES, PROFILES.build({"cpu": {"weight_bits": 4}}))
    found = solver.propose(start)
    assert sorted(found.made.plan.integers) == ["e", "m", "t"]
    assert found.made.plan.integers["m"].shape == (8, 5)
    models = [model, start.made.model, found.made.model]
    expected, before, after = outputs_of(models, start.shop.seen.judges, target)
    assert sqnr_db(expected, after) > sqnr_db(expected, before) + 2


@pytest.mark.parametrize("solver", [Gptq(damping=1e-3), Adaround(steps=50)])
@pytest.mark.parametrize("op", ["MatMul", "Conv"])
def test_neighbours_add_up_to_no_more_than_the_profile_allows(solver, op, filled, draft) -> None:
    """Every pair of weights is at its limit, and the error of an input that is strong would be made
    up for by the weak one beside it, several steps at a time."""
    body = {
        "MatMul": "m = MatMul(x, w) y = Add(m, b)",
        "Conv": "t = Conv<pads=[1,1,1,1]>(x, w, b) y = Erf(t)",
    }[op]
    shape = {"MatMul": (8, 24), "Conv": (24, 4, 3, 3)}[op]
    model = filled(f"agraph (float[N,4,8,8] x) => (float y) {{ {body} }}", {"w": shape, "b": (24,)})
    weight = model.graph.initializers["w"].const_value.numpy()
    weight[:] = np.sign(weight) * (1 - 0.004 * np.abs(RNG.normal(size=shape)))
    x = IMAGES.copy()
    x[:, :, :, ::2] = 6 * x[:, :, :, 1::2]
    x[:, ::2] = 6 * x[:, 1::2]
    start = draft(model, x, PROFILES.build("cpu-avx2"))
    ((_, integers),) = solver.propose(start).made.plan.integers.items()
    sizes = np.abs(integers.astype(int) if op == "Conv" else integers.astype(int).T)
    assert (sizes[:, :-1] + sizes[:, 1:]).max() <= 128
    assert not np.array_equal(integers, start.made.plan.weight_integers(*_first(start, model)))


def _first(start, model):
    unit = next(one for one in start.made.plan.units if one.weight is not None)
    return unit, model.graph.initializers[unit.weight].const_value.numpy()


def test_weights_that_layers_share_are_rounded_to_nearest(filled, draft) -> None:
    text = """agraph (float[N,6] x) => (float y) { t = MatMul(x, w) u = Relu(t) v = MatMul(u, w)
      s = MatMul(v, z) y = Erf(s) }"""
    start = draft(
        filled(text, {"w": (6, 6), "z": (6, 3)}), IMAGES.reshape(-1, 4)[:30, [0, 1, 2, 3, 0, 1]]
    )
    assert list(Gptq().propose(start).made.plan.integers) == ["s"]
