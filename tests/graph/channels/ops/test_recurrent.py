from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deploypipe.graph.channels.removal import plan_removal

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
UNITS, INPUTS = 4, 3


def weights(op: str, dead: Any = (), directions: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    """Small numbers, in which the candidates of some units are zero."""
    rng, gates = np.random.default_rng(seed), GATES[op]
    draw = lambda *shape: rng.integers(-3, 4, shape).astype(np.float32) / 4 + 0.125  # noqa: E731
    w = draw(directions, gates, UNITS, INPUTS)
    r = draw(directions, gates, UNITS, UNITS)
    b = draw(directions, 2, gates, UNITS)
    for array in (w, r):
        array[:, -1, list(dead)] = 0
    b[:, :, -1, list(dead)] = 0
    flat = {"w": (directions, -1, INPUTS), "r": (directions, -1, UNITS), "b": (directions, -1)}
    arrays = {"w": w, "r": r, "b": b}
    return {name: array.reshape(flat[name]) for name, array in arrays.items()}


def rows(op: str, units: list[int], parts: int = 1) -> list[int]:
    return [k for k in range(parts * GATES[op] * UNITS) if k % UNITS in units]


def text(op: str, outputs: str, reader: str, more: str = "", **attributes: Any) -> str:
    """One layer and what reads it."""
    given = {"hidden_size": UNITS, **attributes}
    options = ", ".join(f"{name} = {value}" for name, value in given.items())
    return f"""g (float[5,2,{INPUTS}] x) => (float[5,d,2,2] z) {{
        {outputs} = {op} <{options}> (x, w, r, b{more})
        {reader}}}"""


READ = "z = MatMul(y, v)"
V = np.arange(UNITS * 2, dtype=np.float32).reshape(UNITS, 2) - 3


@pytest.mark.parametrize("op", GATES)
def test_a_unit_without_a_candidate_is_zero_and_goes(cut, op):
    done = cut(text(op, "y", READ), ort=True, exact=False, **weights(op, [1, 3]), v=V)
    assert done.gone["w"] == {1: rows(op, [1, 3])}
    assert done.gone["r"] == {1: rows(op, [1, 3]), 2: [1, 3]}
    assert done.gone["b"] == {1: rows(op, [1, 3], 2)}
    assert done.gone["v"] == {0: [1, 3]}
    assert done.node(op).attributes["hidden_size"].as_int() == 2


@pytest.mark.parametrize("op", GATES)
def test_a_bias_of_the_candidate_keeps_a_unit(cut, op):
    arrays = weights(op, [1, 3])
    arrays["b"][:, (GATES[op] - 1) * UNITS + 3] = 0.5
    done = cut(text(op, "y", READ), ort=True, exact=False, **arrays, v=V)
    assert done.gone["v"] == {0: [1]}


def test_two_biases_that_cancel_are_none_but_behind_a_reset_gate(cut):
    for op, gone in (("LSTM", {0: [1]}), ("RNN", {0: [1]}), ("GRU", None)):
        arrays, gates = weights(op, [1]), GATES[op]
        arrays["b"][:, [(gates - 1) * UNITS + 1, (2 * gates - 1) * UNITS + 1]] = [0.5, -0.5]
        done = cut(text(op, "y", READ), ort=True, exact=False, **arrays, v=V)
        assert done.gone.get("v") == gone


@pytest.mark.parametrize("op", GATES)
def test_a_candidate_that_reads_zero_units_alone_is_zero(cut, op):
    """Units 1 and 3 read each other, and start at zero."""
    arrays = weights(op, [1, 3])
    hidden = arrays["r"].reshape(1, GATES[op], UNITS, UNITS)
    hidden[:, -1, 1, 3] = hidden[:, -1, 3, 1] = 0.5
    done = cut(text(op, "y", READ), ort=True, exact=False, **arrays, v=V)
    assert done.gone["v"] == {0: [1, 3]}
    hidden[:, -1, 3, 0] = 0.5
    done = cut(text(op, "y", READ), ort=True, exact=False, **arrays, v=V)
    assert "v" not in done.gone


@pytest.mark.parametrize("op", GATES)
def test_an_initial_state_keeps_a_unit_alive(cut, op):
    start = np.zeros((1, 2, UNITS), np.float32)
    start[..., 3] = 1
    words = text(op, "y", READ, ", , start")
    done = cut(words, ort=True, exact=False, **weights(op, [1, 3]), start=start, v=V)
    assert done.gone["v"] == {0: [1]} and done.gone["start"] == {2: [1]}


def test_an_initial_cell_keeps_a_unit_alive(cut):
    cell = np.zeros((1, 2, UNITS), np.float32)
    cell[..., 3] = 1
    words = text("LSTM", "y", READ, ", , , cell")
    done = cut(words, ort=True, exact=False, **weights("LSTM", [1, 3]), cell=cell, v=V)
    assert done.gone["v"] == {0: [1]} and done.gone["cell"] == {2: [1]}


@pytest.mark.parametrize("op", GATES)
def test_a_unit_that_nobody_reads_goes(cut, op):
    arrays, v = weights(op), V.copy()
    arrays["r"].reshape(1, -1, UNITS, UNITS)[:, :, [0, 1, 3], 2] = 0  # unit 2 reads itself
    v[2] = 0
    done = cut(text(op, "y", READ), ort=True, exact=False, **arrays, v=v)
    assert done.gone["r"] == {1: rows(op, [2]), 2: [2]}


@pytest.mark.parametrize("op", GATES)
def test_units_that_read_only_each_other_go_together(cut, op):
    arrays, v = weights(op), V.copy()
    arrays["r"].reshape(1, -1, UNITS, UNITS)[:, :, :2, 2:] = 0
    v[2:] = 0
    done = cut(text(op, "y", READ), ort=True, exact=False, **arrays, v=v)
    assert done.gone["v"] == {0: [2, 3]}
    arrays["r"].reshape(1, -1, UNITS, UNITS)[:, 0, 0, 3] = 1  # a gate of a unit that is read
    done = cut(text(op, "y", READ), ort=True, exact=False, **arrays, v=v)
    assert "v" not in done.gone


def test_another_output_that_is_read_keeps_a_unit(cut):
    arrays, v = weights("LSTM"), V.copy()
    arrays["r"].reshape(1, -1, UNITS, UNITS)[:, :, [0, 1, 3], 2] = 0
    v[2] = 0
    reader = "a = MatMul(y, v) s = ReduceMax <keepdims = 0> (c) z = Add(a, s)"
    done = cut(text("LSTM", "y, h, c", reader), ort=True, exact=False, **arrays, v=v)
    assert "v" not in done.gone
    reader = "a = MatMul(y, v) k = MatMul(c, v) s = ReduceMax <keepdims = 0> (k) z = Add(a, s)"
    done = cut(text("LSTM", "y, h, c", reader), ort=True, exact=False, **arrays, v=v)
    assert done.gone["v"] == {0: [2]}


@pytest.mark.parametrize("op", GATES)
def test_the_last_state_alone_may_be_asked_for(cut, op):
    words = text(op, '"", h', "z = MatMul(h, v)").replace("[5,d,2,2] z", "[1,2,2] z")
    done = cut(words, ort=True, exact=False, **weights(op, [0]), v=V)
    assert done.gone["v"] == {0: [0]}


@pytest.mark.parametrize("op", GATES)
def test_a_unit_goes_only_from_both_directions(cut, op):
    arrays = weights(op, [1, 3], directions=2)
    split = arrays["w"].reshape(2, GATES[op], UNITS, INPUTS)
    split[1, -1, 3, 0] = 0.5
    words = text(op, "y", READ, direction='"bidirectional"')
    done = cut(words, ort=True, exact=False, **arrays, v=V)
    assert done.gone["v"] == {0: [1]} and done.gone["b"] == {1: rows(op, [1], 2)}


def test_a_unit_that_one_direction_reads_stays(cut):
    arrays, v = weights("GRU", directions=2), V.copy()
    arrays["r"].reshape(2, 3, UNITS, UNITS)[:, :, [0, 1, 3], 2] = 0
    v[2] = 0
    words = text("GRU", "y", READ, direction='"bidirectional"')
    assert cut(words, ort=True, exact=False, **arrays, v=v).gone["v"] == {0: [2]}
    arrays["r"].reshape(2, 3, UNITS, UNITS)[1, 0, 3, 2] = 1
    assert "v" not in cut(words, ort=True, exact=False, **arrays, v=v).gone


def test_directions_side_by_side_lose_the_same_units(cut):
    """[T, 2, N, H] -> [T, N, 2 * H], as exporters write it."""
    reader = """t = Transpose <perm = [0, 2, 1, 3]> (y)
        f = Reshape(t, s)
        z = MatMul(f, v)"""
    words = text("GRU", "y", reader, direction='"bidirectional"').replace("[5,d,2,2]", "[5,2,2]")
    both = np.arange(16, dtype=np.float32).reshape(8, 2)
    arrays = weights("GRU", [1], directions=2)
    done = cut(words, ort=True, exact=False, **arrays, v=both, s=np.array([0, 0, -1]))
    assert done.gone["v"] == {0: [1, 5]}


@pytest.mark.parametrize("bias", [", b", ""])
@pytest.mark.parametrize("op", GATES)
def test_constant_inputs_go_into_the_bias(cut, op, bias):
    words = f"""g (float[5,2,2] x) => (float[5,1,2,2] z) {{
        h = MatMul(x, u)
        i = Add(h, c)
        y = {op} <hidden_size = {UNITS}> (i, w, r{bias})
        {READ}}}"""
    arrays = weights(op, [1])
    if not bias:
        del arrays["b"]
    u = np.array([[1, 0, 2], [3, 0, -1]], np.float32)
    c = np.array([0.5, 2, 0], np.float32)
    done = cut(words, ort=True, exact=False, **arrays, u=u, c=c, v=V)
    assert done.gone["u"] == {1: [1]}
    assert done.gone["w"][2] == [1]


def test_an_input_that_no_unit_reads_goes(cut):
    words = f"""g (float[5,2,2] x) => (float[5,1,2,2] z) {{
        i = MatMul(x, u)
        y = LSTM <hidden_size = {UNITS}> (i, w, r, b)
        {READ}}}"""
    arrays = weights("LSTM")
    arrays["w"][:, :, 1] = 0
    u = np.array([[1, 1, 2], [3, 5, -1]], np.float32)
    assert cut(words, ort=True, exact=False, **arrays, u=u, v=V).gone["u"] == {1: [1]}


def test_what_only_the_gates_of_a_zero_unit_read_goes(cut):
    """The unit stays, for it is an output, but its gates have nothing to let through."""
    words = f"""g (float[5,2,2] x) => (float[5,1,2,{UNITS}] y) {{
        i = MatMul(x, u)
        y = LSTM <hidden_size = {UNITS}> (i, w, r, b)}}"""
    arrays = weights("LSTM", [1])
    arrays["w"].reshape(4, UNITS, INPUTS)[:, [0, 2, 3], 1] = 0
    u = np.array([[1, 1, 2], [3, 5, -1]], np.float32)
    assert cut(words, ort=True, exact=False, **arrays, u=u).gone["u"] == {1: [1]}


def test_peepholes_go_with_their_units(cut):
    peep = np.arange(12, dtype=np.float32).reshape(1, 12) / 8
    words = text("LSTM", "y", READ, ", , , , peep")
    done = cut(words, ort=True, exact=False, **weights("LSTM", [1]), peep=peep, v=V)
    assert done.gone["peep"] == {1: [1, 5, 9]}


def test_layers_lose_each_others_inputs(cut):
    words = f"""g (float[5,2,{INPUTS}] x) => (float[5,1,2,2] z) {{
        y = GRU <hidden_size = {UNITS}> (x, w, r, b)
        s = Squeeze(y, one)
        y2 = LSTM <hidden_size = {UNITS}> (s, w2, r2, b2)
        z = MatMul(y2, v)}}"""
    second = {f"{name}2": array for name, array in weights("LSTM", [0], seed=1).items()}
    second["w2"] = np.concatenate([second["w2"], second["w2"][..., :1]], 2)
    more = {**second, "one": np.array([1]), "v": V}
    done = cut(words, ort=True, exact=False, **weights("GRU", [1, 3]), **more)
    assert done.gone["w2"] == {1: rows("LSTM", [0]), 2: [1, 3]}


@pytest.mark.parametrize("name", ["Sigmoid", "HardSigmoid"])
def test_a_candidate_function_that_is_not_zero_at_zero_keeps_all(cut, name):
    words = text("LSTM", "y", READ, activations=f'["Sigmoid", "{name}", "Tanh"]')
    assert cut(words, ort=True, exact=False, **weights("LSTM", [1]), v=V).gone == {}


def test_a_function_that_is_zero_at_zero_is_as_good_as_tanh(cut):
    words = text("LSTM", "y", READ, activations='["HardSigmoid", "Relu", "Softsign"]')
    done = cut(words, ort=True, exact=False, **weights("LSTM", [1]), v=V)
    assert done.gone["v"] == {0: [1]}


def test_computed_weights_are_left_alone(cut):
    words = text("LSTM", "y", READ).replace(" x)", " x, float[1,16,4] r)")
    arrays = weights("LSTM", [1])
    del arrays["r"]
    assert cut(words, ort=True, exact=False, **arrays, v=V).gone == {}


def test_batches_first_are_left_alone(flow, parse):
    words = text("GRU", "y", READ, layout=1).replace("[5,d,2,2] z", "[5,2,1,2] z")
    graph = flow(parse(words, **weights("GRU", [1]), v=V))
    assert plan_removal(graph).indices == {}
