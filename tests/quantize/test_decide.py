from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

X = np.random.default_rng(3).normal(size=(40, 1, 2, 2)).astype(np.float32)


@dataclass
class Told:
    """A race that ends as told; models without a time are the slowest."""

    times: dict[str, float]
    seen: tuple[str, ...] = ()

    def __call__(self, models, feeds):
        self.seen = tuple(models)
        assert feeds
        return {name: self.times.get(name, 9.0) for name in models}


@pytest.fixture
def raced(conv_net, quantize):
    def run(**times: float):
        race = Told({"float": 1.0, **times})
        return quantize(conv_net, X, race=race), race

    return run


def test_the_fastest_placement_ships(raced) -> None:
    done, race = raced(all=0.5)
    assert race.seen[:2] == ("float", "all")
    assert done.modified
    assert done.notes["decision"]["winner"] == "all"
    assert done.notes["decision"]["time_relative_to_float"]["all"] == 0.5
    assert done.notes["fused"] == 4


@pytest.mark.parametrize("time", [0.99, 1.0, 3.0])
def test_float_ships_where_nothing_is_faster(raced, time: float) -> None:
    done, _ = raced(all=time)
    assert not done.modified
    assert next(node.op_type for node in done.model.graph) == "Conv"
    assert f"placements in 8 bits takes {time:.2f} of its time" in done.refusals[0]
    assert done.notes["fused"] == 0
    assert done.notes["decision"]["winner"] == "float"


def test_units_that_a_cut_leaves_in_float_say_why(conv_net, quantize, monkeypatch) -> None:
    from deploypipe.quantize.costs import Costs

    monkeypatch.setattr(Costs, "cheapest", lambda self, border=1.0: frozenset({"head"}))
    race = Told({"float": 1.0, "all": 0.9, "cut": 0.3})
    done = quantize(conv_net, X, race=race)
    assert done.notes["decision"]["winner"] == "cut"
    assert [unit.name for unit in done.plan.units] == ["head"]
    told = [line for line in done.refusals if line.startswith("Conv 'conv' stays float")]
    assert "microseconds" in told[0]
    assert {node.op_type for node in done.model.graph} >= {"Conv", "Gemm", "QuantizeLinear"}


LINEAR = """agraph (float[N,40] x) => (float[N,40] y) {
  [one] t = MatMul(x, w) [bias] u = Add(t, b) [act] r = Relu(u) [two] y = MatMul(r, w) }"""
ROWS = np.random.default_rng(3).normal(size=(40, 40)).astype(np.float32)


@pytest.fixture
def formed(parse, constants, quantize, monkeypatch):
    """A model of linear nodes, where the dynamic form costs a tenth."""
    from deploypipe.quantize.costs import Costs

    model = constants(parse(LINEAR), w=ROWS / 6, b=ROWS[0])
    monkeypatch.setattr(Costs, "forms", property(lambda _: {"one": "dynamic", "two": "dynamic"}))
    chosen = {True: frozenset({"two"}), False: frozenset({"one", "two"})}
    monkeypatch.setattr(Costs, "cheapest", lambda self, border=1.0, forms=False: chosen[forms])

    def run(**times: float):
        race = Told({"float": 1.0, **times})
        return quantize(model, ROWS, race=race), race

    return run


def test_linear_nodes_that_are_faster_in_another_form_take_it(formed) -> None:
    done, race = formed(**{"all": 0.9, "cut, linear nodes by form": 0.4})
    assert race.seen[:2] == ("float", "all")
    assert done.notes["decision"]["winner"] == "cut, linear nodes by form"
    assert done.notes["decision"]["linear_forms"] == {"one": "dynamic"}
    assert "1 MatMul with int8 weights and dynamic activations" in done.changes
    assert not any("'one' stays float" in line for line in done.refusals)
    assert [unit.name for unit in done.plan.units] == ["two"]
    assert "MatMulInteger" in {node.op_type for node in done.model.graph}


def test_a_model_may_have_nothing_but_other_forms(formed) -> None:
    done, _ = formed(**{"all": 0.9, "all linear nodes dynamic": 0.3})
    assert done.modified
    assert done.changes == ["2 MatMul with int8 weights and dynamic activations"]
    assert [node.op_type for node in done.model.graph].count("MatMulInteger") == 2
    assert "QuantizeLinear" not in {node.op_type for node in done.model.graph}
    assert done.notes["fused"] == 0


def test_a_form_that_is_less_accurate_than_static_int8_does_not_race(formed, monkeypatch) -> None:
    from deploypipe.quantize import decide

    told = iter([30.0, 29.9, 31.0, 12.0])
    monkeypatch.setattr(decide, "sqnr_db", lambda *_: next(told))
    done, race = formed(**{"all": 0.9, "all linear nodes dynamic": 0.1})
    notes = done.notes["decision"]
    assert "cut, linear nodes by form" not in race.seen
    assert notes["refused"]["cut, linear nodes by form"] == "29.9 dB, 30.0 in static 8 bits"
    assert notes["winner"] != "cut, linear nodes by form"


def test_the_times_of_all_forms_are_noted(formed) -> None:
    done, _ = formed(all=0.5)
    times = done.notes["decision"]["linear_microseconds"]
    assert set(times) == {"dynamic", "weight-only"}
    assert all(set(one) == {"one", "two"} and min(one.values()) > 0 for one in times.values())
